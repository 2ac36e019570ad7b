"""Looks at the machine before anything is changed. Reads only; never called in a preview."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Callable, Iterator
from typing import Any

import docker
import requests
from docker.errors import DockerException

from ape_contracts import labels
from ape_infra.config.project import config_key
from ape_infra.config.settings import Settings

# Images of the services, the stand-ins and a first day of logs and metrics.
MIN_FREE_DISK_MB = 2048
# For the first answer. Then a daemon that starts or moves many containers may take its time.
ANSWER_SECONDS = 10
WORK_SECONDS = 60


class PreflightError(Exception):
    """What stands in the way, one line each: path, what is wrong, what to do."""


def connect(settings: Settings) -> docker.DockerClient:
    """A client of the stack's daemon. Raises PreflightError when none answers."""
    try:
        if settings.platform.docker_host:
            client = docker.DockerClient(
                base_url=settings.platform.docker_host, timeout=ANSWER_SECONDS
            )
        else:
            client = docker.from_env(timeout=ANSWER_SECONDS)
        client.ping()
        client.api.timeout = WORK_SECONDS
    except (DockerException, requests.RequestException, OSError) as error:
        where = settings.platform.docker_host or "DOCKER_HOST or the local socket"
        raise PreflightError(
            f"{config_key('dockerHost')}: no Docker daemon answers at {where} ({error}). Start it "
            "(`make up` does, as root), or name another address."
        ) from None
    return client


def check(
    settings: Settings, project: str, stack: str, *, on_warning: Callable[[str], None]
) -> docker.DockerClient:
    """Raise PreflightError with all that would make an `up` fail half way.

    `on_warning` gets what is only worth a warning.
    """
    client = connect(settings)
    info: dict[str, Any] = client.info()
    broken = [
        *_swarm(settings, info),
        *_disk(info),
        *_ports(settings, client, project, stack),
        *_images(settings, client),
    ]
    too_large = list(_size(settings, info, stack))
    if settings.platform.production and not settings.platform.allow_overcommit:
        broken += [f"{line} Or set {config_key('allowOvercommit')} to true." for line in too_large]
    else:
        for line in too_large:
            on_warning(line)
    if broken:
        raise PreflightError("\n".join(broken))
    return client


def _swarm(settings: Settings, info: dict[str, Any]) -> Iterator[str]:
    state = info.get("Swarm", {})
    if settings.platform.runtime == "swarm" and not state.get("ControlAvailable"):
        yield (
            f"{config_key('runtime')}: is swarm, and the daemon is no Swarm manager "
            f"(it is {state.get('LocalNodeState', 'inactive')}). Run "
            "`docker swarm init --advertise-addr ADDRESS`, or set runtime to docker."
        )


def _disk(info: dict[str, Any]) -> Iterator[str]:
    root = info.get("DockerRootDir", "")
    try:
        free_mb = shutil.disk_usage(root).free // 2**20
    except OSError:
        return  # The daemon is on another machine.
    if free_mb < MIN_FREE_DISK_MB:
        yield (
            f"disk: {free_mb} MB are free at {root}, and an up needs {MIN_FREE_DISK_MB} MB. "
            "Free some (`docker system df` shows what Docker holds)."
        )


def _ports(
    settings: Settings, client: docker.DockerClient, project: str, stack: str
) -> Iterator[str]:
    if settings.platform.runtime == "swarm":
        return
    ours = set()
    filters = labels.stack_filter(project, stack)
    for container in client.api.containers(filters=filters):
        ours |= {port.get("PublicPort") for port in container["Ports"]}
    wanted = {"gatewayPort": settings.ports.gateway, "proxyPort": settings.ports.proxy}
    if settings.target.is_demo:
        wanted["targetPort"] = settings.ports.target
    wanted |= settings.part_ports
    if settings.observability.monitored:
        wanted["monitorPort"] = settings.ports.monitor
    for name, port in wanted.items():
        if port in ours or settings.platform.docker_host.startswith(("tcp://", "ssh://", "http")):
            continue
        family = socket.AF_INET6 if ":" in settings.ports.expose_address else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((settings.ports.expose_address, port))
            except OSError as error:
                yield (
                    f"{config_key(name)}: port {port} of {settings.ports.expose_address} cannot be "
                    f"had ({error.strerror}). Stop what uses it (`ss -ltnp`), or set another port."
                )


def _images(settings: Settings, client: docker.DockerClient) -> Iterator[str]:
    """An image of the observability stack must be here, or its registry must know it."""
    for name, image in settings.part_images.items():
        try:
            client.images.get(image)
            continue
        except DockerException:
            pass
        try:
            client.images.get_registry_data(image)
        except (DockerException, requests.RequestException) as error:
            reason = getattr(error, "explanation", None) or str(error)
            part = name.removesuffix("Image")
            rest = ", ".join(p for p in settings.observability.parts if p != part)
            yield (
                f"{config_key(name)}: {image} is not on this machine and cannot be pulled "
                f"({reason}). Load it (docker load), name another, or leave {part} out: set "
                f"{config_key('observabilityParts')} to {rest}. `offline/images.sh full` makes "
                "stand-ins of Alertmanager and Loki."
            )


def _size(settings: Settings, info: dict[str, Any], stack: str) -> Iterator[str]:
    need = settings.plan(stack).resources
    have_mb, have_cpus = info["MemTotal"] // 2**20, info["NCPU"]
    if need.memory_mb > have_mb:
        yield (
            f"{config_key('agents')}: {settings.fleet.agents} agents and the services may take "
            f"{need.memory_mb} MB, and the machine has {have_mb} MB. Set fewer agents."
        )
    if need.cpus > have_cpus:
        yield (
            f"{config_key('agents')}: {settings.fleet.agents} agents and the services may take "
            f"{need.cpus} cores, and the machine has {have_cpus}. Set fewer agents."
        )
