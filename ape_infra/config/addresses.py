"""Addresses as containers see them: `localhost` is the container itself, never the Docker host."""

from __future__ import annotations

import ipaddress
import socket
from urllib.parse import SplitResult, urlsplit, urlunsplit

from ape_infra.config.errors import Problem, url_problems

# Resolves to the Docker host in a container that has the mapping to `host-gateway`.
DOCKER_HOST = "host.docker.internal"
HOST_GATEWAY = "host-gateway"


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL; None if it has a port that is not a number, or a wrong host."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


def host_of(url: str) -> str:
    """Return the host of a URL in lower case, without a final dot; empty if it has none."""
    parts = _split(url)
    return (parts.hostname or "").rstrip(".") if parts else ""


def on_docker_host(url: str) -> bool:
    return host_of(url) == DOCKER_HOST


def from_this_machine(url: str) -> str:
    """Return a URL with this machine in place of the Docker host, a name of containers only."""
    if not on_docker_host(url):
        return url
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=f"127.0.0.1{port}"))


def is_loopback(host: str) -> bool:
    """Whether a host names the machine, or the container, that resolves it."""
    if host in ("localhost", "localhost.localdomain", "ip6-localhost") or host.endswith(
        ".localhost"
    ):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        try:
            # Short forms, such as 127.1 and 0.
            address = ipaddress.ip_address(socket.inet_aton(host))
        except (OSError, ValueError):
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def reachable_problem(url: str, *, swarm: bool) -> str:
    """Return why a container cannot reach this URL, with the remedy; empty: it may."""
    host = host_of(url)
    if is_loopback(host):
        remedy = (
            "Set an address that every node reaches."
            if swarm
            else f"For a server on the Docker host, write {DOCKER_HOST} in its place."
        )
        return f"names {host}, which in a container is the container itself. {remedy}"
    if swarm and host == DOCKER_HOST:
        return (
            f"names {host}, but runtime is swarm: that host is whichever node the task runs on. "
            "Set an address that every node reaches."
        )
    return ""


def container_url_problems(
    name: str, value: str, alternative: str, *, credentials: str, swarm: bool
) -> list[Problem]:
    """Each broken rule of a URL that containers request. `credentials`: where they belong."""
    parts = _split(value)
    if parts is None or any(c.isspace() or not c.isprintable() for c in value):
        return [(name, "is not a URL. Correct its host and its port.")]
    if parts.username is not None or parts.password is not None:
        return [(name, f"holds credentials, which are readable there. {credentials}")]
    if found := url_problems(name, value, alternative):
        return found
    problem = reachable_problem(value, swarm=swarm)
    return [(name, problem)] if problem else []
