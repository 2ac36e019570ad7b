"""The images that stacks of tests run, on the machine's own daemon."""

from __future__ import annotations

import subprocess
from typing import IO, cast

import docker
from docker.utils.build import create_archive

from ape_docker_provider.image import context_files
from ape_infra.config.settings import Settings
from ape_infra.planning.services import DOCKERFILES, package_folder
from ape_infra.program.components.images import content_digest
from tests.support.live import ROOT
from tests.support.slots import exclusive

SERVICES = ("gateway", "proxy", "agent", "demo_target", "monitor", "socket_proxy")
# Of the containers that hold the images.
HOLDER = "ape.test.holds"


def built(*services: str) -> dict[str, str]:
    """Service -> its image, built where it is not there yet."""
    base = Settings().images.base
    made = {
        service: f"ape-{service.replace('_', '-')}:{content_digest(ROOT, service, base)}"
        for service in services
    }
    client = docker.from_env()
    with exclusive("images"):
        there = {tag for image in client.images.list() for tag in image.tags}
        for service, name in made.items():
            if name not in there:
                _build(client, service, name, base)
    return made


def _build(client: docker.DockerClient, service: str, name: str, base: str) -> None:
    """With the service's own files as the context, as the plugin builds it."""
    dockerfile = f"{DOCKERFILES}/{service}.Dockerfile"
    files = context_files(str(ROOT), f"{ROOT}/{dockerfile}")
    client.images.build(
        fileobj=cast("IO[bytes]", create_archive(str(ROOT), files=files)),
        custom_context=True,
        dockerfile=dockerfile,
        tag=name,
        buildargs={"BASE_IMAGE": base, "SERVICE": service, "SOURCE": package_folder(service)},
    )


def hold(images: dict[str, str]) -> None:
    """Keep the images while tests run: `ape-load down` removes those that no container uses.

    A container that is only created is enough. `release` lets go.
    """
    client = docker.from_env()
    with exclusive("images"):
        held = {
            c["Labels"][HOLDER] for c in client.api.containers(all=True, filters={"label": HOLDER})
        }
        for image in set(images.values()) - held:
            client.containers.create(image, labels={HOLDER: image})


def release() -> None:
    try:
        client = docker.from_env()
    except docker.errors.DockerException:
        return  # No daemon: nothing is held.
    for container in client.api.containers(all=True, filters={"label": HOLDER}):
        client.api.remove_container(container["Id"], force=True)


def observability_images() -> None:
    """Those of `observability: full`; where no registry answers, one takes minutes to build."""
    with exclusive("observability-images"):
        subprocess.run(["nice", str(ROOT / "offline/images.sh"), "full"], check=True)
