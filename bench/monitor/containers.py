"""Real containers to measure, with a small image of Debian's packages; removed at the end."""

from __future__ import annotations

import contextlib
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import docker

IMAGE = "ape-bench-monitor"
LABELS = {"ape.project": "ape", "ape.stack": "bench"}
# Docker starts about ten per second here, also with more in parallel.
AT_ONCE = 8


def _libraries(program: str) -> list[str]:
    output = subprocess.run(["ldd", program], capture_output=True, text=True, check=False).stdout
    return re.findall(r"(/[^ )]+)", output)


def make_image(client: docker.DockerClient, *programs: str) -> str:
    """Import an image of busybox and `programs`, each with its shared libraries."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for name in ("busybox", *programs):
            path = shutil.which(name)
            if path is None:
                raise SystemExit(
                    f"bench: {name} is not installed. Run apt-get install busybox-static {name}"
                )
            for file in {path, *_libraries(path)}:
                real = str(Path(file).resolve())
                arcname = f"bin/{name}" if file == path else file.lstrip("/")
                tar.add(real, arcname=arcname)
        link = tarfile.TarInfo("bin/sleep")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        tar.addfile(link)
        for folder in ("tmp", "proc", "sys", "dev", "etc"):
            made = tarfile.TarInfo(folder)
            made.type, made.mode = tarfile.DIRTYPE, 0o1777
            tar.addfile(made)
    data.seek(0)
    client.api.import_image_from_data(data.read(), repository=IMAGE, tag="latest")
    return IMAGE


@contextlib.contextmanager
def idle_agents(client: docker.DockerClient, count: int) -> Iterator[None]:
    """Run `count` sleeping containers with the limits of the largest fleets."""
    make_image(client)
    api = client.api
    # A bridge has 1023 ports, and connecting becomes slow long before.
    network = "bridge" if count <= 250 else "none"
    host = api.create_host_config(
        mem_limit="128m", nano_cpus=100_000_000, init=False, network_mode=network
    )

    def start(slot: int) -> str:
        made = api.create_container(
            IMAGE,
            ["/bin/sleep", "3600"],
            name=f"ape-bench-agent-{slot:04d}",
            environment={"APE_AGENT_SLOT": str(slot)},
            labels={**LABELS, "ape.service": "agent", "ape.tier": "bench"},
            host_config=host,
        )
        api.start(made["Id"])
        key: str = made["Id"]
        return key

    try:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            list(pool.map(start, range(1, count + 1)))
        yield
    finally:
        remove(client)


def remove(client: docker.DockerClient) -> None:
    """Remove the containers and the image."""
    filters = {"label": [f"{k}={v}" for k, v in LABELS.items()]}
    found = client.api.containers(all=True, filters=filters)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda c: client.api.remove_container(c["Id"], force=True), found))
    with contextlib.suppress(docker.errors.APIError):
        client.api.remove_image(IMAGE, force=True)
