"""Grafana Alloy's configuration: the logs of every container, to the log store.

The mapping is data, so that the stand-in for Alloy in the tests maps as Alloy does.
"""

from __future__ import annotations

import json

from ape_contracts import labels
from ape_infra.observability.text import render

PORT = 12345
DATA_DIR = "/var/lib/alloy/data"
# Loki's label -> Docker's label. Loki indexes them, so they are few.
LABELS = {
    "project": labels.PROJECT,
    "stack": labels.STACK,
    "service": labels.SERVICE,
    "tier": labels.TIER,
}
# Structured metadata -> key of a service's JSON log line. A trace id is the same in all services.
METADATA = {"trace_id": "trace_id", "session_id": "session", "level": "level"}
# Structured metadata with the container's name.
CONTAINER = "container"


def config(*, docker_url: str, project: str, stack: str, push_url: str) -> str:
    """Return the configuration in Alloy's own language.

    `docker_url`: a Docker API that allows reads only. `push_url`: of the log store, for Loki's
    protocol.
    """
    return render(
        "ape_infra.observability",
        "config.alloy.j2",
        project=project,
        stack=stack,
        docker_url=json.dumps(docker_url),
        push_url=json.dumps(push_url),
        stack_labels=[json.dumps(label) for label in labels.stack_filter(project, stack)["label"]],
        labels=LABELS,
        metadata=METADATA,
        container=CONTAINER,
    )
