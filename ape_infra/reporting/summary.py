"""The state of a stack, as measured; nothing in it is taken from the config."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import docker
import requests
from docker.errors import DockerException

from ape_contracts import labels
from ape_contracts.service_settings import SERVICE_PORT
from ape_contracts.text import plain
from ape_infra.planning.services import AGENT, GATEWAY

HEALTH_PATHS = {
    "prometheus": "/-/healthy",
    "alertmanager": "/-/healthy",
    "grafana": "/api/health",
    "loki": "/ready",
}
TIMEOUT_SECONDS = 5
POLL_SECONDS = 2
MAX_FAILURES = 10


@dataclass
class Summary:
    """Counts of agents, not of containers.

    `endpoints`: service -> (URL, whether it is up). `running` and `healthy`: by the state of the
    containers. `alive`: by heartbeats to the gateway. `sessions`: as the gateway counts them.
    """

    endpoints: dict[str, tuple[str, bool]] = field(default_factory=dict)
    declared: int = 0
    running: int = 0
    healthy: int = 0
    alive: int = 0
    sessions: dict[str, Any] = field(default_factory=dict)

    @property
    def has_settled(self) -> bool:
        """Whether the stack is healthy, and its agents finished one session each on average."""
        done = self.sessions.get("success", 0) + self.sessions.get("failure", 0)
        return self.is_healthy and done >= self.declared

    @property
    def is_healthy(self) -> bool:
        """Whether all endpoints are up, and all declared agents are healthy."""
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
            text += " (" + ", ".join(f"{plain(k)}: {v}" for k, v in sorted(reasons.items())) + ")"
        return [*lines, f"sessions    {text}"]

    def failures(self) -> list[str]:
        """The most frequent reasons of failed sessions, with the words of model or target."""
        listed = self.sessions.get("failures")
        return [
            one_line(f"{item.get('sessions', 0)} x {item.get('reason', '')}: {item['detail']}")
            for item in (listed if isinstance(listed, list) else [])[:MAX_FAILURES]
            if isinstance(item, dict) and item.get("detail")
        ]


def one_line(text: str) -> str:
    """Somebody else's words on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def containers(client: docker.DockerClient, project: str, stack: str) -> list[dict[str, Any]]:
    """Return every container of the stack as Docker lists it, running or not."""
    filters = labels.stack_filter(project, stack)
    found: list[dict[str, Any]] = client.api.containers(all=True, filters=filters)
    return found


def running_tasks(client: docker.DockerClient, project: str, stack: str) -> Counter[str]:
    """Running tasks of each service on all nodes of the Swarm; of agents, the agents in them."""
    filters = labels.stack_filter(project, stack)
    found: Counter[str] = Counter()
    for service in client.api.services(filters=filters):  # type: ignore[no-untyped-call]
        wanted = {"service": service["ID"], "desired-state": "running"}
        tasks = client.api.tasks(filters=wanted)  # type: ignore[no-untyped-call]
        running = sum(task["Status"]["State"] == "running" for task in tasks)
        own = service["Spec"]["Labels"]
        found[own[labels.SERVICE]] += running * _agents_in(own)
    return found


def _healthy(container: Mapping[str, Any]) -> bool:
    # "Up 3 minutes (healthy)"; without a health check just "Up 3 minutes".
    status = str(container["Status"])
    return status.startswith("Up") and ("(healthy)" in status or "(" not in status)


def _agents_in(container_labels: Mapping[str, str]) -> int:
    return int(container_labels.get(labels.AGENTS, 1))


def _get_inside(client: docker.DockerClient, container_id: str, url: str) -> bytes | None:
    """GET `url` from inside the container; None if that fails."""
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
    """Sends GET requests to services: to the published port, or from inside the container.

    `endpoints`: service -> base URL. `container_ids`: service -> a running container of it.
    """

    def __init__(
        self,
        client: docker.DockerClient,
        endpoints: Mapping[str, str | None],
        container_ids: Mapping[str, str],
    ) -> None:
        self._client, self._endpoints, self._container_ids = client, endpoints, container_ids

    def get(self, service: str, path: str) -> bytes | None:
        """Return the body; None without a 2xx answer, or if no container runs on this node."""
        if base := self._endpoints.get(service):
            return _get(base + path)
        if container := self._container_ids.get(service):
            try:
                return _get_inside(
                    self._client, container, f"http://127.0.0.1:{SERVICE_PORT}{path}"
                )
            except DockerException:
                return None
        return None


class Measurement(NamedTuple):
    """A summary, a client of the services, and the containers on this node."""

    summary: Summary
    services: ServiceClient
    containers: list[dict[str, Any]]


def measure(
    client: docker.DockerClient, project: str, stack: str, outputs: Mapping[str, Any]
) -> Summary:
    """Measure the stack with the given outputs. Raises DockerException."""
    return measure_stack(client, project, stack, outputs).summary


def measure_stack(
    client: docker.DockerClient, project: str, stack: str, outputs: Mapping[str, Any]
) -> Measurement:
    """Query Docker, every endpoint, and the gateway's count of the fleet.

    Raises DockerException.
    """
    summary = Summary(declared=int(outputs["agents"]))
    found = containers(client, project, stack)
    running = [c for c in found if c["State"] == "running"]
    by_service = {c["Labels"][labels.SERVICE]: c for c in running}
    agents = [c for c in running if c["Labels"][labels.SERVICE] == AGENT]
    summary.running = sum(_agents_in(c["Labels"]) for c in agents)
    summary.healthy = sum(_agents_in(c["Labels"]) for c in agents if _healthy(c))
    tasks: Counter[str] | None = None
    if outputs.get("runtime") == "swarm":
        # A list of containers covers this node only; a task runs once it is healthy.
        tasks = running_tasks(client, project, stack)
        summary.running = summary.healthy = tasks[AGENT]
    services = ServiceClient(
        client, outputs["endpoints"], {name: c["Id"] for name, c in by_service.items()}
    )
    for name, base in outputs["endpoints"].items():
        if base:
            up = services.get(name, HEALTH_PATHS.get(name, "/health")) is not None
            summary.endpoints[name] = (base, up)
        else:
            container = by_service.get(name)
            healthy_here = container is not None and _healthy(container)
            up = tasks[name] > 0 if tasks is not None else healthy_here
            summary.endpoints[name] = ("inside the Swarm", up)
    fleet = services.get(GATEWAY, "/fleet")
    if fleet is not None:
        counted = json.loads(fleet)
        summary.alive, summary.sessions = counted["alive"], counted["sessions"]
    if not any("health" in str(c["Status"]) for c in agents) and tasks is None:
        # A fleet too large for health checks proves its health by heartbeats.
        summary.healthy = min(summary.healthy, summary.alive)
    return Measurement(summary, services, found)


def wait_settled(
    take: Callable[[], Summary], *, seconds: float, on_progress: Callable[[Summary], None]
) -> Summary:
    """Measure every POLL_SECONDS until the stack has settled, for at most `seconds`."""
    end = time.monotonic() + seconds
    while True:
        summary = take()
        if summary.has_settled or time.monotonic() >= end:
            return summary
        on_progress(summary)
        time.sleep(POLL_SECONDS)
