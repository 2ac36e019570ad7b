"""Grafana Alloy's configuration: the logs of every container of the stack, to Loki.

The mapping is data, so that what stands in for Alloy in the tests maps as Alloy does.
"""

from __future__ import annotations

import json

from ape_contracts import labels

PORT = 12345
DATA_DIR = "/var/lib/alloy/data"
# Loki's label -> Docker's label. They index, so they are few.
LABELS = {
    "project": labels.PROJECT,
    "stack": labels.STACK,
    "service": labels.SERVICE,
    "tier": labels.TIER,
}
# Structured metadata -> key of a service's JSON log line. One trace id leads through all services.
METADATA = {"trace_id": "trace_id", "session_id": "session", "level": "level"}
# Structured metadata with the container's name.
CONTAINER = "container"


def config(*, docker_url: str, project: str, stack: str, push_url: str) -> str:
    """Alloy's own language. `docker_url`: a Docker API that allows reads only."""
    rules = "\n".join(
        f"""
  rule {{
    source_labels = ["__meta_docker_container_label_{docker.replace(".", "_")}"]
    target_label  = "{label}"
  }}"""
        for label, docker in LABELS.items()
    )
    expressions = ", ".join(f"{name} = {json.dumps(key)}" for name, key in METADATA.items())
    metadata = ", ".join(f'{name} = ""' for name in (*METADATA, CONTAINER))
    return f"""// Logs of the containers of {project}-{stack}.
discovery.docker "stack" {{
  host             = {json.dumps(docker_url)}
  refresh_interval = "5s"

  filter {{
    name   = "label"
    values = [{json.dumps(f"{labels.PROJECT}={project}")}, {json.dumps(f"{labels.STACK}={stack}")}]
  }}
}}

discovery.relabel "stack" {{
  targets = discovery.docker.stack.targets
{rules}

  rule {{
    source_labels = ["__meta_docker_container_name"]
    regex         = "/(.*)"
    target_label  = "{CONTAINER}"
  }}
}}

loki.source.docker "stack" {{
  host             = {json.dumps(docker_url)}
  targets          = discovery.relabel.stack.output
  refresh_interval = "5s"
  forward_to       = [loki.process.stack.receiver]
}}

loki.process "stack" {{
  forward_to = [loki.write.stack.receiver]

  stage.json {{
    expressions = {{ ts = "ts", {expressions} }}
  }}

  stage.timestamp {{
    source            = "ts"
    format            = "RFC3339Nano"
    action_on_failure = "fudge"
  }}

  stage.structured_metadata {{
    values = {{ {metadata} }}
  }}

  stage.label_drop {{
    values = ["{CONTAINER}"]
  }}
}}

loki.write "stack" {{
  endpoint {{
    url = {json.dumps(push_url)}
  }}
}}
"""
