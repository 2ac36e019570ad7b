"""A stand-in for Grafana Alloy, for tests: brings the logs of a stack's containers to
a log store.

Alloy is not available on a machine without a registry. The mapping is `observability.alloy`'s own:
labels, structured metadata, the container's name.
"""

from __future__ import annotations

import json
from typing import Any

import docker
import requests

from ape_infra.observability import alloy
from ape_infra.reporting.log_stores import nanoseconds
from ape_infra.reporting.summary import containers


def entry(stamp: str, line: str, container: str) -> list[Any]:
    """One entry of Loki's push API: time, line, structured metadata."""
    try:
        found = json.loads(line)
    except ValueError:
        found = {}
    fields = found if isinstance(found, dict) else {}
    metadata = {
        name: str(fields[key]) for name, key in alloy.METADATA.items() if fields.get(key)
    } | {alloy.CONTAINER: container}
    return [str(nanoseconds(stamp)), line, metadata]


class Shipper:
    """Pushes what the stack's containers log, by Loki's protocol; each line once, as Alloy does."""

    def __init__(
        self, client: docker.DockerClient, push_url: str, project: str, stack: str
    ) -> None:
        self._client, self._push_url = client, push_url
        self._project, self._stack = project, stack
        # Container -> its lines that were pushed.
        self._pushed: dict[str, int] = {}

    def ship(self) -> int:
        """Push all lines that are new; returns how many."""
        streams, seen = [], dict(self._pushed)
        for found in containers(self._client, self._project, self._stack):
            if found["State"] == "created":
                continue
            lines, name = self._lines(found["Id"]), found["Names"][0].lstrip("/")
            seen[found["Id"]] = len(lines)
            new = (line.partition(" ") for line in lines[self._pushed.get(found["Id"], 0) :])
            if values := [entry(stamp, line, name) for stamp, _, line in new if line]:
                marks = found["Labels"]
                labels = {n: marks[k] for n, k in alloy.LABELS.items() if k in marks}
                streams.append({"stream": labels, "values": values})
        answer = requests.post(self._push_url, json={"streams": streams}, timeout=30)
        answer.raise_for_status()
        self._pushed = seen
        return sum(len(stream["values"]) for stream in streams)

    def _lines(self, identity: str) -> list[str]:
        """The whole lines of a container; the last one may be incomplete."""
        text = self._client.api.logs(identity, timestamps=True).decode(errors="replace")
        return [line.removesuffix("\r") for line in text.split("\n")[:-1]]
