"""What runs, from what was measured and not from the config."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import docker
import requests
from docker.errors import DockerException

from ape_contracts import labels
from ape_contracts.service_settings import SERVICE_PORT
from ape_infra.program.components import gateway
from ape_infra.program.components.agents import SERVICE as AGENT

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
    filters = labels.stack_filter(project, stack)
    found: list[dict[str, Any]] = client.api.containers(all=True, filters=filters)
    return found


def tasks(client: docker.DockerClient, project: str, stack: str) -> Counter[str]:
    """Tasks that run, by service, on all nodes of the Swarm; agents count, not their tasks."""
    filters = labels.stack_filter(project, stack)
    found: Counter[str] = Counter()
    for service in client.api.services(filters=filters):  # type: ignore[no-untyped-call]
        marks = service["Spec"]["Labels"]
        wanted = {"service": service["ID"], "desired-state": "running"}
        there = client.api.tasks(filters=wanted)  # type: ignore[no-untyped-call]
        running = sum(task["Status"]["State"] == "running" for task in there)
        found[marks[labels.SERVICE]] += running * _agents_in(marks)
    return found


def _healthy(container: Mapping[str, Any]) -> bool:
    # "Up 3 minutes (healthy)"; without a health check just "Up 3 minutes".
    status = str(container["Status"])
    return status.startswith("Up") and ("(healthy)" in status or "(" not in status)


def _agents_in(marks: Mapping[str, str]) -> int:
    return int(marks.get(labels.AGENTS, 1))


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


class ServiceClient:
    """GETs a service of the stack: by its published port, or from inside its container."""

    def __init__(
        self,
        client: docker.DockerClient,
        endpoints: Mapping[str, str | None],
        at: Mapping[str, str],
    ) -> None:
        self._client, self._endpoints, self._at = client, endpoints, at

    def get(self, service: str, path: str) -> bytes | None:
        """The body; None where the service does not answer with success, or is not here."""
        if base := self._endpoints.get(service):
            return _get(base + path)
        if container := self._at.get(service):
            try:
                return _inside(self._client, container, f"http://127.0.0.1:{SERVICE_PORT}{path}")
            except DockerException:
                return None
        return None


def measure(
    client: docker.DockerClient, project: str, stack: str, outputs: Mapping[str, Any]
) -> Summary:
    """Ask Docker, every endpoint, and the gateway's count of the fleet."""
    return measured(client, project, stack, outputs)[0]


def measured(
    client: docker.DockerClient, project: str, stack: str, outputs: Mapping[str, Any]
) -> tuple[Summary, ServiceClient, list[dict[str, Any]]]:
    """The summary, a way to ask the services for more, and the containers on this machine."""
    summary = Summary(declared=int(outputs["agents"]))
    found = containers(client, project, stack)
    running = [c for c in found if c["State"] == "running"]
    by_service = {c["Labels"][labels.SERVICE]: c for c in running}
    agents = [c for c in running if c["Labels"][labels.SERVICE] == AGENT]
    summary.running = sum(_agents_in(c["Labels"]) for c in agents)
    summary.healthy = sum(_agents_in(c["Labels"]) for c in agents if _healthy(c))
    swarm: Counter[str] | None = None
    if outputs.get("runtime") == "swarm":
        # A list of containers shows this node only; a task runs when it is healthy.
        swarm = tasks(client, project, stack)
        summary.running = summary.healthy = swarm[AGENT]
    reach = ServiceClient(client, outputs["endpoints"], {k: c["Id"] for k, c in by_service.items()})
    for name, base in outputs["endpoints"].items():
        if base:
            up = reach.get(name, HEALTH_PATHS.get(name, "/health")) is not None
            summary.endpoints[name] = (base, up)
        else:
            at = by_service.get(name)
            up = swarm[name] > 0 if swarm is not None else at is not None and _healthy(at)
            summary.endpoints[name] = ("inside the Swarm", up)
    fleet = reach.get(gateway.NAME, "/fleet")
    if fleet is not None:
        seen = json.loads(fleet)
        summary.alive, summary.sessions = seen["alive"], seen["sessions"]
    if not any("health" in str(c["Status"]) for c in agents) and swarm is None:
        # A fleet too large for health checks proves its health by its heartbeats.
        summary.healthy = min(summary.healthy, summary.alive)
    return summary, reach, found


def wait_settled(
    take: Callable[[], Summary], *, seconds: float, on_progress: Callable[[Summary], None]
) -> Summary:
    """Measure every two seconds until the stack has settled or the time is over."""
    end = time.monotonic() + seconds
    while True:
        summary = take()
        if summary.settled or time.monotonic() >= end:
            return summary
        on_progress(summary)
        time.sleep(2)
