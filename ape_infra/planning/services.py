"""The services that this project builds, each with the package that its image runs."""

from __future__ import annotations

from typing import Literal, get_args

BuiltService = Literal["gateway", "proxy", "agent", "demo_target", "monitor", "socket_proxy"]
BUILT_SERVICES: tuple[BuiltService, ...] = get_args(BuiltService)


def package_folder(service: str) -> str:
    """The folder of the service's package, relative to the sources' root."""
    return "monitoring" if service == "monitor" else f"services/ape_{service}"
