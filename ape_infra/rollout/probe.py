"""Takes the readings: Docker, the services' own metrics, the machine."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import DockerException
from prometheus_client.parser import text_string_to_metric_families

from ape_contracts import labels, metrics
from ape_infra.program.components import gateway, proxy
from ape_infra.program.components.agents import SERVICE as AGENT
from ape_infra.reporting.summary import measured
from ape_infra.rollout.readings import Counters, OverrideError, Readings, overridden
from monitoring import cgroups

# A hook for tests: a JSON file of rules for `readings.overridden`, read at every reading.
OVERRIDE_ENV = "APE_READINGS_OVERRIDE"
# Deaths of one container within so long make a restart loop.
LOOP_SECONDS = 300.0
OBSERVED_SERVICES = (gateway.NAME, proxy.NAME)


def samples(text: bytes | None) -> list[tuple[str, Mapping[str, str], float]]:
    """(name, labels, value) of an exposition; empty where there is none."""
    if text is None:
        return []
    return [
        (s.name, s.labels, s.value)
        for family in text_string_to_metric_families(text.decode(errors="replace"))
        for s in family.samples
    ]


def _bad(status: str) -> bool:
    return status == "incomplete" or status == "429" or status.startswith("5")


def counters(
    found: Iterable[tuple[str, Mapping[str, str], float]], sessions: Mapping[str, Any]
) -> Counters:
    """Requests to the target and to the model, and how many of them failed."""
    requests = errors = 0.0
    for name, tags, value in found:
        if name in (metrics.GATEWAY_REQUESTS.name, metrics.PROXY_REQUESTS.name):
            requests += value
            errors += value if _bad(tags.get("status", "")) else 0.0
        elif name == metrics.GATEWAY_ERRORS.name:
            requests += value
            errors += value
    return Counters(
        requests, errors, float(sessions.get("success", 0)), float(sessions.get("failure", 0))
    )


class DockerProbe:
    """Reads the stack `stack` of `project`. `outputs` gives the stack's outputs of this moment."""

    def __init__(
        self,
        client: docker.DockerClient,
        project: str,
        stack: str,
        outputs: Callable[[], Mapping[str, Any]],
        *,
        local: bool,
    ) -> None:
        self._client, self._project, self._stack = client, project, stack
        self._outputs, self._local = outputs, local
        self._since = time.time()
        self._ended: list[tuple[float, str]] = []
        self._root = client.info().get("DockerRootDir", "/") if local else ""
        psutil.cpu_percent(interval=None)

    def take(self) -> Readings:
        summary, reach, found = measured(self._client, self._project, self._stack, self._outputs())
        self._events()
        text = [reach.get(name, "/metrics") for name in OBSERVED_SERVICES]
        readings = Readings(
            running=summary.running,
            healthy=summary.healthy,
            deaths=Counter(name for _, name in self._ended),
            services={
                n: summary.endpoints[n][1] for n in OBSERVED_SERVICES if n in summary.endpoints
            },
            container_memory=self._memory(found),
            counters=counters([s for part in text for s in samples(part)], summary.sessions),
            **self._machine(),
        )
        if override := os.environ.get(OVERRIDE_ENV):
            readings = injected(readings, Path(override))
        return readings

    def _events(self) -> None:
        """Note the agents that ended with an error since the last time."""
        until = time.time()
        filters = {
            "event": ["die"],
            "label": [
                f"{labels.PROJECT}={self._project}",
                f"{labels.STACK}={self._stack}",
                f"{labels.SERVICE}={AGENT}",
            ],
        }
        try:
            stream = self._client.api.events(  # type: ignore[call-overload]
                since=f"{self._since:.6f}", until=f"{until:.6f}", filters=filters, decode=True
            )
            for event in stream:
                about = event["Actor"]["Attributes"]
                if about.get("exitCode") not in ("0", "143"):
                    self._ended.append((until, about["name"]))
        except DockerException:
            return
        self._since = until
        self._ended = [e for e in self._ended if e[0] > until - LOOP_SECONDS]

    def _machine(self) -> dict[str, float | None]:
        if not self._local:
            return {}
        usage = shutil.disk_usage(self._root if os.path.isdir(self._root) else "/")
        return {
            "memory_percent": psutil.virtual_memory().percent,
            "cpu_percent": psutil.cpu_percent(interval=None),
            "disk_percent": 100 * usage.used / usage.total,
        }

    def _memory(self, found: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        if not self._local:
            return {}
        made = {}
        for container in found:
            if container["State"] == "running" and (at := cgroups.memory(container["Id"])):
                made[container["Names"][0].lstrip("/")] = 100 * at[0] / at[1]
        return made


def injected(readings: Readings, file: Path) -> Readings:
    try:
        return overridden(readings, json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise OverrideError(f"{OVERRIDE_ENV}: {file}: {error}") from None
