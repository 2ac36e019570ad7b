"""The services of a stack: their names, and the sources of those that this project builds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, get_args

# A service's name on the network, and the value of its label `ape.service`.
AGENT, GATEWAY, PROXY, TARGET, MONITOR = "agent", "gateway", "proxy", "target", "monitor"

BuiltService = Literal["gateway", "proxy", "agent", "demo_target", "monitor", "socket_proxy"]
BUILT_SERVICES: tuple[BuiltService, ...] = get_args(BuiltService)
DOCKERFILES = Path("services/images")


def package_folder(service: str) -> str:
    """The folder of the service's package, relative to the sources' root."""
    return "monitoring" if service == "monitor" else f"services/ape_{service}"


def sources(service: str) -> tuple[Path, ...]:
    """The files and folders that the image of `service` is made of, besides downloaded wheels."""
    return (
        DOCKERFILES / "Dockerfile",
        Path("services/requirements") / f"{service}.lock",
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
