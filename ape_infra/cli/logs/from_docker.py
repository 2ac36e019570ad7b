"""Logs of containers and of Swarm's tasks, from the Docker daemon."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import docker
import requests
from docker.errors import DockerException

from ape_contracts import labels
from ape_infra.cli.logs.lines import Line
from ape_infra.config.project import current

FRAME_HEADER_BYTES = 8
# Docker cuts a line at 16 kB; one that never ends is shown in pieces.
MAX_LINE_BYTES = 2**20


def tasks(client: docker.DockerClient, stack: str) -> list[dict[str, Any]]:
    """The tasks of the stack's Swarm services on all nodes, in the shape of a container list."""
    filters = labels.stack_filter(current().name, stack)
    found = []
    for service in client.api.services(filters=filters):  # type: ignore[no-untyped-call]
        spec = service["Spec"]
        of_it = {"service": service["ID"]}
        for task in client.api.tasks(filters=of_it):  # type: ignore[no-untyped-call]
            if task["Status"].get("ContainerStatus"):
                name = f"{spec['Name']}.{task.get('Slot', 0)}.{task['ID']}"
                state = task["Status"]["State"]
                found.append(
                    {"Id": task["ID"], "Names": [name], "State": state, "Labels": spec["Labels"]}
                )
    return found


def _task_log(
    client: docker.DockerClient, identity: str, tail: int, *, follow: bool
) -> Iterator[bytes]:
    """The log of a task, which docker-py has no call for; its API client is a requests.Session.

    The answer is a sequence of frames: a header, whose last 4 bytes are the length, and text.
    """
    api = client.api
    with api.get(
        f"{api.base_url}/v{api.api_version}/tasks/{identity}/logs",
        params={"stdout": 1, "stderr": 1, "timestamps": 1, "follow": int(follow), "tail": tail},
        stream=True,
        timeout=None,
    ) as answer:
        answer.raise_for_status()
        while len(header := answer.raw.read(FRAME_HEADER_BYTES)) == FRAME_HEADER_BYTES:
            yield answer.raw.read(int.from_bytes(header[4:], "big"))


def pieces(
    client: docker.DockerClient, identity: str, tail: int, *, swarm: bool, follow: bool
) -> Iterator[bytes]:
    """Pieces of the log of a container or task; each line begins with its time."""
    if swarm:
        return _task_log(client, identity, tail, follow=follow)
    found: Iterator[bytes] = client.api.logs(
        identity, stream=True, follow=follow, timestamps=True, tail=tail
    )
    return found


def written(
    client: docker.DockerClient, names: Mapping[str, str], tail: int, *, swarm: bool
) -> list[Line]:
    """The last `tail` lines of each container, in order of time."""
    found = []
    for identity, name in names.items():
        text = b"".join(pieces(client, identity, tail, swarm=swarm, follow=False))
        found += [Line.of(name, line) for line in text.split(b"\n") if line]
    return sorted(found, key=lambda line: line.ts)


def follow(
    client: docker.DockerClient, names: Mapping[str, str], tail: int, *, swarm: bool
) -> Iterator[Line]:
    """Lines as they arrive, until every container has ended."""
    arrived: queue.Queue[Line | None] = queue.Queue(maxsize=10_000)

    def read(identity: str, name: str) -> None:
        try:
            rest = b""
            for chunk in pieces(client, identity, tail, swarm=swarm, follow=True):
                *whole, rest = (rest + chunk).split(b"\n")
                if len(rest) > MAX_LINE_BYTES:
                    whole, rest = [*whole, rest], b""
                for line in whole:
                    arrived.put(Line.of(name, line))
        except (DockerException, requests.RequestException, OSError):
            pass
        arrived.put(None)

    for identity, name in names.items():
        threading.Thread(target=read, args=(identity, name), daemon=True).start()
    left = len(names)
    while left:
        try:
            line = arrived.get(timeout=0.5)
        except queue.Empty:
            continue
        if line is None:
            left -= 1
        else:
            yield line
