"""Checks of the network: the ports that the stack publishes, and its pool of addresses."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterator

from ape_contracts import labels
from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key
from ape_infra.planning.plan import SUBNET_PREFIX


def ports(facts: Facts) -> Iterator[Check]:
    """Each port must be free, or be published by this stack."""
    if facts.is_swarm or not facts.is_local:
        yield Check("ports", "unknown", "the ports of the nodes are not visible from this host.")
        return
    filters = labels.stack_filter(facts.project, facts.stack)
    own = {
        port.get("PublicPort")
        for container in facts.client.api.containers(filters=filters)
        for port in container["Ports"]
    }
    address = facts.settings.ports.expose_address
    wanted = facts.settings.published_ports
    taken = {
        name: error
        for name, port in wanted.items()
        if port not in own and (error := _bind_error(address, port))
    }
    for name, error in taken.items():
        yield Check(
            "ports",
            "fail",
            f"port {wanted[name]} of {address} is not available ({error}).",
            "Stop the process that uses it (`ss -ltnp`), or set another port.",
            path=config_key(name),
        )
    if not taken:
        yield Check("ports", "ok", f"the {len(wanted)} ports of {address} are available.")


def _bind_error(address: str, port: int) -> str | None:
    """The reason why nothing can listen on the port; None where it can."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return error.strerror or str(error)
    return None


def address_pool(facts: Facts) -> Iterator[Check]:
    """No network of another stack should have addresses of this stack's pool."""
    text = facts.settings.platform.network_pool
    pool = ipaddress.ip_network(text)
    taken = []
    for network in facts.client.api.networks():
        if (network.get("Labels") or {}).get(labels.STACK) == facts.stack:
            continue
        for config in (network.get("IPAM") or {}).get("Config") or []:
            subnet = ipaddress.ip_network(config.get("Subnet", "0.0.0.0/32"), strict=False)
            if subnet.version == pool.version and subnet.overlaps(pool):
                taken.append(f"{network['Name']} ({subnet})")
    if taken:
        yield Check(
            "addresses",
            "warn",
            f"{text} is used by {', '.join(sorted(taken)[:3])}.",
            "Give this stack a pool of its own.",
            path=config_key("networkPool"),
        )
        return
    count = 2 ** max(0, SUBNET_PREFIX - pool.prefixlen)
    yield Check("addresses", "ok", f"{text} is large enough for {count} networks.")
