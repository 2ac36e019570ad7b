"""What runs, from what was measured and not from the config."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import docker
import requests
from docker.errors import DockerException

from ape_infra.components import gateway
from ape_infra.components.agents import SERVICE as AGENT
from ape_infra.workload import (
    LABEL_AGENTS,
    LABEL_PROJECT,
    LABEL_SERVICE,
    LABEL_STACK,
    SERVICE_PORT,
)

HEALTH_PATHS = {
    "prometheus": "/-/healthy",
    "alertmanager": "/-/healthy",
    "grafana": "/api/health",
    "loki": "/ready",
}
TIMEOUT_SECONDS = 5


@dataclass
class Summary:
    """`endpoints`: name -> (URL, up). How many agents are in which state, not how many containers:

    `running` and `healthy` as Docker says of their containers, `alive` by their own word to the
    gateway.
    """

    endpoints: dict[str, tuple[str, bool]] = field(default_factory=dict)
    declared: int = 0
    running: int = 0
    healthy: int = 0
    alive: int = 0
    sessions: dict[str, Any] = field(default_factory=dict)

    @property
    def settled(self) -> bool:
        """All endpoints up, all agents healthy, and each has finished a session on average."""
        done = self.sessions.get("success", 0) + self.sessions.get("failure", 0)
        return (
            all(up for _, up in self.endpoints.values())
            and self.healthy >= self.declared
            and done >= self.declared
        )

    @property
    def well(self) -> bool:
        return all(up for _, up in self.endpoints.values()) and self.healthy >= self.declared

    def lines(self) -> list[str]:
        lines = [
            f"{name:<11} {'up  ' if up else 'DOWN'}  {url}"
            for name, (url, up) in self.endpoints.items()
        ]
        lines.append(
            f"agents      {self.healthy} of {self.declared} healthy "
            f"({self.running} running, {self.alive} seen by the gateway)"
        )
        success, failure = self.sessions.get("success", 0), self.sessions.get("failure", 0)
        text = f"{success + failure} finished: {success} succeeded, {failure} failed"
        if reasons := self.sessions.get("by_reason"):
            text += " (" + ", ".join(f"{k}: {v}" for k, v in sorted(reasons.items())) + ")"
        return [*lines, f"sessions    {text}"]

    def json(self) -> str:
        return json.dumps(asdict(self))


def containers(client: docker.DockerClient, project: str, stack: str) -> list[dict[str, Any]]:
    """Every container of the stack as Docker lists it, running or not."""
    filters = {"label": [f"{LABEL_PROJECT}={project}", f"{LABEL_STACK}={stack}"]}
    found: list[dict[str, Any]] = client.api.containers(all=True, filters=filters)
    return found


def _healthy(container: Mapping[str, Any]) -> bool:
    # "Up 3 minutes (healthy)"; without a health check just "Up 3 minutes".
    status = str(container["Status"])
    return status.startswith("Up") and ("(healthy)" in status or "(" not in status)


def _agents_in(container: Mapping[str, Any]) -> int:
    return int(container["Labels"].get(LABEL_AGENTS, 1))


def _inside(client: docker.DockerClient, container_id: str, url: str) -> bytes | None:
    """GET `url` from inside the container; None where that fails."""
    code = "import sys,urllib.request as u;sys.stdout.buffer.write(u.urlopen(sys.argv[1]).read())"
    made = client.api.exec_create(container_id, ["python", "-c", code, url])
    output: bytes = client.api.exec_start(made["Id"])
    return output if client.api.exec_inspect(made["Id"])["ExitCode"] == 0 else None


def _get(url: str) -> bytes | None:
    try:
        answer = requests.get(url, timeout=TIMEOUT_SECONDS)
    except requests.RequestException:
        return None
    return answer.content if answer.ok else None


def measure(
    client: docker.DockerClient, project: str, stack: str, outputs: Mapping[str, Any]
) -> Summary:
    """Ask Docker, every endpoint, and the gateway's count of the fleet."""
    summary = Summary(declared=int(outputs["agents"]))
    found = containers(client, project, stack)
    running = [c for c in found if c["State"] == "running"]
    by_service = {c["Labels"][LABEL_SERVICE]: c for c in running}
    agents = [c for c in running if c["Labels"][LABEL_SERVICE] == AGENT]
    summary.running = sum(map(_agents_in, agents))
    summary.healthy = sum(_agents_in(c) for c in agents if _healthy(c))
    for name, base in outputs["endpoints"].items():
        if base:
            url = base + HEALTH_PATHS.get(name, "/health")
            summary.endpoints[name] = (base, _get(url) is not None)
        else:
            at = by_service.get(name)
            summary.endpoints[name] = ("inside the Swarm", at is not None and _healthy(at))
    fleet: bytes | None = None
    base = outputs["endpoints"][gateway.NAME]
    if base:
        fleet = _get(f"{base}/fleet")
    elif at := by_service.get(gateway.NAME):
        try:
            fleet = _inside(client, at["Id"], f"http://127.0.0.1:{SERVICE_PORT}/fleet")
        except DockerException:
            fleet = None
    if fleet is not None:
        seen = json.loads(fleet)
        summary.alive, summary.sessions = seen["alive"], seen["sessions"]
    if not any("health" in str(c["Status"]) for c in agents):
        # A fleet too large for health checks proves its health by its heartbeats.
        summary.healthy = min(summary.healthy, summary.alive)
    return summary


def wait_settled(
    take: Callable[[], Summary], *, seconds: float, tell: Callable[[Summary], None]
) -> Summary:
    """Measure every two seconds until the stack has settled or the time is over."""
    end = time.monotonic() + seconds
    while True:
        summary = take()
        if summary.settled or time.monotonic() >= end:
            return summary
        tell(summary)
        time.sleep(2)
