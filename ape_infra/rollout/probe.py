"""The probe of a rollout: readings of Docker, the services' metrics and the host."""

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

from ape_contracts import labels, metrics
from ape_infra.planning.services import AGENT, GATEWAY, PROXY
from ape_infra.reporting.rates import Sample, samples
from ape_infra.reporting.summary import measure_stack
from ape_infra.rollout.readings import Counters, OverrideError, Readings, overridden
from monitoring import cgroups

# A hook for tests: a JSON file of rules for `readings.overridden`, read at every reading.
OVERRIDE_ENV = "APE_READINGS_OVERRIDE"
# Deaths of one container within this time make a restart loop.
RESTART_LOOP_SECONDS = 300.0
OBSERVED_SERVICES = (GATEWAY, PROXY)
# A stopped container exits with 0, or with 143 on SIGTERM.
EXPECTED_EXIT_CODES = ("0", "143")


def _is_error(status: str) -> bool:
    return status == "incomplete" or status == "429" or status.startswith("5")


def counters(found: Iterable[Sample], sessions: Mapping[str, Any]) -> Counters:
    """Count requests to the target and to the model, and those that failed."""
    requests = errors = 0.0
    for name, sample_labels, value in found:
        if name in (metrics.GATEWAY_REQUESTS.name, metrics.PROXY_REQUESTS.name):
            requests += value
            errors += value if _is_error(sample_labels.get("status", "")) else 0.0
        elif name == metrics.GATEWAY_ERRORS.name:
            requests += value
            errors += value
    return Counters(
        requests, errors, float(sessions.get("success", 0)), float(sessions.get("failure", 0))
    )


class DockerProbe:
    """Reads the stack `stack` of `project`. `outputs` returns the stack's current outputs.

    `local`: whether the daemon runs on this host, whose cgroups and disk can then be read.
    """

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
        self._events_since = time.time()
        self._deaths: list[tuple[float, str]] = []
        self._data_root = client.info().get("DockerRootDir", "/") if local else ""
        psutil.cpu_percent(interval=None)

    def take(self) -> Readings:
        """Return current readings. Raises DockerException, OverrideError."""
        summary, services, containers = measure_stack(
            self._client, self._project, self._stack, self._outputs()
        )
        self._read_deaths()
        found = [
            sample
            for name in OBSERVED_SERVICES
            for sample in samples(services.get(name, "/metrics"))
        ]
        readings = Readings(
            running=summary.running,
            healthy=summary.healthy,
            deaths=Counter(name for _, name in self._deaths),
            services={
                name: summary.endpoints[name][1]
                for name in OBSERVED_SERVICES
                if name in summary.endpoints
            },
            container_memory=self._container_memory(containers),
            counters=counters(found, summary.sessions),
            **self._host(),
        )
        if override := os.environ.get(OVERRIDE_ENV):
            readings = injected(readings, Path(override))
        return readings

    def _read_deaths(self) -> None:
        """Record the agents that ended with an error since the last reading."""
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
            events = self._client.api.events(  # type: ignore[call-overload]
                since=f"{self._events_since:.6f}",
                until=f"{until:.6f}",
                filters=filters,
                decode=True,
            )
            for event in events:
                attributes = event["Actor"]["Attributes"]
                if attributes.get("exitCode") not in EXPECTED_EXIT_CODES:
                    self._deaths.append((until, attributes["name"]))
        except DockerException:
            return
        self._events_since = until
        self._deaths = [d for d in self._deaths if d[0] > until - RESTART_LOOP_SECONDS]

    def _host(self) -> dict[str, float | None]:
        if not self._local:
            return {}
        usage = shutil.disk_usage(self._data_root if os.path.isdir(self._data_root) else "/")
        return {
            "memory_percent": psutil.virtual_memory().percent,
            "cpu_percent": psutil.cpu_percent(interval=None),
            "disk_percent": 100 * usage.used / usage.total,
        }

    def _container_memory(self, containers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
        """Return the memory of each running container, in percent of its limit."""
        if not self._local:
            return {}
        return {
            container["Names"][0].lstrip("/"): 100 * memory[0] / memory[1]
            for container in containers
            if container["State"] == "running" and (memory := cgroups.memory(container["Id"]))
        }


def injected(readings: Readings, file: Path) -> Readings:
    """Apply the overrides in `file` to the readings. Raises OverrideError."""
    try:
        return overridden(readings, json.loads(file.read_text()))
    except (OSError, ValueError) as error:
        raise OverrideError(f"{OVERRIDE_ENV}: {file}: {error}") from None
