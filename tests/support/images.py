"""The images that stacks of tests run, on the machine's own daemon."""

from __future__ import annotations

import subprocess

import docker

from ape_infra.config.settings import Settings
from ape_infra.planning.services import DOCKERFILES, package_folder
from ape_infra.program.components.images import content_digest
from tests.support.live import ROOT, sh
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
    with exclusive("images"):
        there = {tag for image in docker.from_env().images.list() for tag in image.tags}
        for service, name in made.items():
            if name not in there:
                sh("docker", "build", "-q", "-t", name,
                   "-f", f"{ROOT}/{DOCKERFILES}/{service}.Dockerfile",
                   "--build-arg", f"BASE_IMAGE={base}", "--build-arg", f"SERVICE={service}",
                   "--build-arg", f"SOURCE={package_folder(service)}", str(ROOT))  # fmt: skip
    return made


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
    client = docker.from_env()
    for container in client.api.containers(all=True, filters={"label": HOLDER}):
        client.api.remove_container(container["Id"], force=True)


def observability_images() -> None:
    """Those of `observability: full`; where no registry answers, one takes minutes to build."""
    with exclusive("observability-images"):
        subprocess.run(["nice", str(ROOT / "offline/images.sh"), "full"], check=True)
