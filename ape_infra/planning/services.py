"""The services of a stack: their names, and the sources of those that this project builds."""

from __future__ import annotations

from pathlib import Path

from ape_contracts.limits import LIMITS

REQUIREMENTS = Path("services/requirements")
# A service's name on the network, and the value of its label `ape.service`.
AGENT, GATEWAY, PROXY, TARGET, MONITOR = "agent", "gateway", "proxy", "target", "monitor"

DOCKERFILES = Path("services/images")
# A service is built where it has a file of requirements.
BUILT_SERVICES = tuple(
    sorted(path.stem for path in (Path(__file__).parents[2] / REQUIREMENTS).glob("*.in"))
)


def deployed(*, demo_target: bool, monitor: bool) -> tuple[str, ...]:
    """The services that a stack runs; those without a condition always."""
    conditions = {"demo_target": demo_target, "monitor": monitor, "socket_proxy": monitor}
    return tuple(service for service in BUILT_SERVICES if conditions.get(service, True))


def container_name(service: str) -> str:
    """The short name of the service's container."""
    return {"demo_target": "target"}.get(service, service.replace("_", "-"))


def memory_mb(services: tuple[str, ...]) -> int:
    """MiB of one container of each of them, the agents aside."""
    return sum(LIMITS[service].memory_mb for service in services if service in LIMITS)


def package_folder(service: str) -> str:
    """The folder of the service's package, relative to the sources' root."""
    return "monitoring" if service == "monitor" else f"services/ape_{service}"


def sources(service: str) -> tuple[Path, ...]:
    """The files and folders that the image of `service` is made of, besides downloaded wheels."""
    return (
        DOCKERFILES / "Dockerfile",
        REQUIREMENTS / f"{service}.lock",
        Path("ape_contracts"),
        Path("services/ape_service"),
        Path(package_folder(service)),
    )


def dockerignore(service: str) -> str:
    """The text of the service's own .dockerignore, which lets in its sources only."""
    allowed = (
        *sources(service),
        DOCKERFILES / f"{service}.Dockerfile",
        Path("services/wheels") / service,
    )
    lines = ("*", *(f"!{path.as_posix()}" for path in allowed), "**/__pycache__")
    return "".join(f"{line}\n" for line in lines)
