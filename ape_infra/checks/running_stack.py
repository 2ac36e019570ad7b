"""Checks of the stack as it runs: its monitoring, and whether it can be rolled back to."""

from __future__ import annotations

from collections.abc import Iterator

from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.project import config_key


def monitoring(facts: Facts) -> Iterator[Check]:
    """Prometheus should be up, or the test leaves no measurements."""
    if facts.settings.observability.mode == "off":
        yield Check(
            "monitoring",
            "warn",
            f"{config_key('observability')} is off.",
            "Set it to metrics: without it the test leaves no measurements.",
        )
        return
    url, up = facts.endpoints.get("prometheus", ("", False))
    if up:
        yield Check("monitoring", "ok", f"Prometheus is up at {url}.")
    else:
        yield Check("monitoring", "warn", "Prometheus is not up.", "See `ape-load status`.")


def rollback(facts: Facts) -> Iterator[Check]:
    """The last update should have succeeded, so that a rollback has a good state to apply."""
    if not facts.agents:
        yield Check("rollback", "warn", "the stack is not up.", "Start it with `ape-load up`.")
        return
    updates = (h for h in facts.history if h.get("kind") in ("update", "destroy"))
    last = next(updates, None)
    if last is not None and last.get("result") != "succeeded":
        yield Check(
            "rollback",
            "warn",
            f"the result of the last update is: {last.get('result')}.",
            "`ape-load up` brings the stack to its config.",
        )
        return
    yield Check("rollback", "ok", f"a rollback applies the {facts.agents} agents of the config.")
