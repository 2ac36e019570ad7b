"""Checks of the target: whether it answers, and how fast."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator

import requests

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.checks.mcp import initialized
from ape_infra.config.addresses import from_this_machine

TIMEOUT_SECONDS = 5.0
PROBES = 3


def answers(facts: Facts) -> Iterator[Check]:
    """The target must answer; the demo target is asked only while the stack is up."""
    target = facts.settings.target
    if facts.hides(target.http_url):
        yield Check("target", "unknown", "it runs on the Docker host, which is another machine.")
    elif not target.is_demo:
        yield mcp_probe(target.http_url) if target.is_mcp else probe(target.url)
    elif not facts.outputs:
        yield Check("target", "ok", "the demo target is part of the stack.")
    elif url := facts.outputs["endpoints"].get("target"):
        yield probe(f"{url}/health")
    else:
        yield Check("target", "unknown", "the demo target is reachable only inside the stack.")


def probe(url: str) -> Check:
    """Request `url` and report the median time of PROBES answers."""
    times = []
    for _ in range(PROBES):
        started = time.monotonic()
        try:
            answer = requests.get(from_this_machine(url), timeout=TIMEOUT_SECONDS, stream=True)
            answer.close()
        except requests.RequestException as error:
            observed = f"{url} does not answer ({type(error).__name__})."
            return Check("target", "fail", observed, "Start it, or correct its URL.")
        times.append(time.monotonic() - started)
    observed = f"{url} answers {answer.status_code} after {1000 * statistics.median(times):.0f} ms."
    if answer.status_code >= 500:
        return Check("target", "fail", observed, "Fix the target before you put it under load.")
    return Check("target", "ok", observed)


def mcp_probe(url: str) -> Check:
    """Send `initialize` to the MCP server at `url`."""
    started = time.monotonic()
    found = initialized(from_this_machine(url), TIMEOUT_SECONDS)
    observed = f"{url}: {found.observed} after {1000 * (time.monotonic() - started):.0f} ms."
    return Check("target", found.status, observed, found.remedy)
