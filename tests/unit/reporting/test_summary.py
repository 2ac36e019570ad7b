"""The summary counts agents, not containers."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ape_contracts import labels
from ape_infra.reporting import summary

pytestmark = pytest.mark.unit
OUTPUTS = {"agents": 45, "endpoints": {"gateway": "http://gateway"}}


def container(agents: str, status: str) -> dict[str, Any]:
    own = {labels.SERVICE: "agent", labels.AGENTS: agents}
    state = "running" if status.startswith("Up") else "exited"
    return {"Id": status, "Labels": own, "Status": status, "State": state}


@pytest.mark.parametrize(
    ("found", "running", "healthy"),
    [
        (["Up 1 minute (healthy)", "Up 1 minute (unhealthy)", "Up 1 minute (healthy)"], 45, 25),
        (["Up 1 minute (healthy)", "Exited (1)", "Up 1 second (health: starting)"], 25, 20),
        # Without health checks, heartbeats to the gateway count.
        (["Up 1 minute", "Up 1 minute", "Up 1 minute"], 45, 44),
    ],
)
def test_summary_counts_agents_and_not_containers(
    found: list[str], running: int, healthy: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    fleet = {"alive": 44, "sessions": {"success": 3, "failure": 0}}
    sizes = ("20", "20", "5")
    listed = [container(n, status) for n, status in zip(sizes, found, strict=True)]
    monkeypatch.setattr(summary, "containers", lambda *_: listed)
    monkeypatch.setattr(summary, "_get", lambda _: json.dumps(fleet).encode())
    made = summary.measure(None, "ape", "dev", OUTPUTS)  # type: ignore[arg-type]
    assert (made.declared, made.running, made.healthy, made.alive) == (45, running, healthy, 44)
