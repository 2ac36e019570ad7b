"""A stand-in for Grafana Alloy, for tests: brings the logs of a stack's containers to Loki.

Alloy is not available on a machine without a registry. The mapping is `observability.alloy`'s own:
labels, structured metadata, the container's name.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import docker
import requests

from ape_infra.observability import alloy, loki
from ape_infra.reporting.summary import containers


def nanoseconds(stamp: str) -> int:
    """Docker's time stamp, 2026-01-02T03:04:05.123456789Z, since 1970."""
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    seconds = datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp()
    return int(seconds) * 10**9 + int(fraction.ljust(9, "0")[:9])


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


def ship(client: docker.DockerClient, loki_url: str, project: str, stack: str) -> int:
    """Push all that the stack's containers have logged; returns how many lines."""
    streams = []
    for found in containers(client, project, stack):
        if found["State"] == "created":
            continue
        labels = {n: found["Labels"][k] for n, k in alloy.LABELS.items() if k in found["Labels"]}
        text = client.api.logs(found["Id"], timestamps=True).decode(errors="replace")
        name = found["Names"][0].lstrip("/")
        written = (line.partition(" ") for line in text.splitlines())
        values = [entry(stamp, line, name) for stamp, space, line in written if space]
        if values:
            streams.append({"stream": labels, "values": values})
    answer = requests.post(f"{loki_url}{loki.PUSH_PATH}", json={"streams": streams}, timeout=30)
    answer.raise_for_status()
    return sum(len(stream["values"]) for stream in streams)
