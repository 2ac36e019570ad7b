"""The images of our services, named by their content."""

from __future__ import annotations

import hashlib
import os
import platform
from pathlib import Path

import pulumi
import pulumi_docker as docker

from ape_infra.config.images import ImageSettings
from ape_infra.planning.services import DOCKERFILES, package_folder, sources
from ape_infra.program.components.base import Component

_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "arm64": "arm64"}
_IGNORED = {"__pycache__", "tests"}


def content_digest(root: Path, service: str, base_image: str) -> str:
    """Twelve hex digits of all that goes into the image of `service`.

    A tag made of it is known before the build, so a preview is exact, and a changed source
    replaces just the containers that run it.
    """
    hashed = hashlib.sha256(base_image.encode())
    for part in sources(service):
        found = [root / part] if (root / part).is_file() else sorted((root / part).rglob("*"))
        for path in found:
            relative = path.relative_to(root)
            if path.is_file() and not _IGNORED & set(relative.parts) and path.suffix != ".pyc":
                hashed.update(f"{relative.as_posix()}\0".encode())
                hashed.update(path.read_bytes())
    return hashed.hexdigest()[:12]


class Images(Component):
    """Builds the image of each service that the settings do not give; `names`: service -> image.

    `source_root` holds the services' sources; the build context is its path relative to `root`,
    the project's folder.
    """

    def __init__(
        self,
        name: str,
        services: tuple[str, ...],
        *,
        root: Path,
        source_root: Path,
        settings: ImageSettings,
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        super().__init__("ape:images:Images", name, opts)
        self.names: dict[str, str] = {}
        self.resources: dict[str, docker.Image] = {}
        given, prefix = settings.given or {}, f"{settings.registry}/" if settings.registry else ""
        machine = _ARCHITECTURES.get(platform.machine(), platform.machine())
        context = Path(os.path.relpath(source_root, root))
        for service in services:
            if service in given:
                self.names[service] = given[service]
                continue
            repository = f"ape-{service.replace('_', '-')}"
            tag = content_digest(source_root, service, settings.base)
            self.names[service] = f"{prefix}{repository}:{tag}"
            self.resources[service] = docker.Image(
                f"image-{service.replace('_', '-')}",
                image_name=self.names[service],
                build=docker.DockerBuildArgs(
                    context=context.as_posix(),
                    dockerfile=(context / DOCKERFILES / f"{service}.Dockerfile").as_posix(),
                    platform=f"linux/{machine}",
                    args={
                        "BASE_IMAGE": settings.base,
                        "SERVICE": service,
                        "SOURCE": package_folder(service),
                    },
                ),
                skip_push=not settings.registry,
                opts=self.child_opts,
            )
        self.register_outputs({"names": self.names})

    def built(self, service: str) -> list[pulumi.Resource]:
        """What to wait for before a container of `service` can start."""
        return [self.resources[service]] if service in self.resources else []
