"""What the real program declares passes every policy: dev and prod, both runtimes."""

from typing import Any

import pytest

from ape_policy import CONTAINER, RULES, SERVICE
from ape_policy.workload import VOLUME
from tests.support.program_mocks import PROD, run

pytestmark = pytest.mark.program


@pytest.mark.parametrize(
    ("stack", "config"),
    [
        ("dev", {}),
        ("dev", {**PROD, "observability": "full"}),
        ("dev", {"runtime": "swarm"}),
        ("prod", PROD),
        ("prod", {**PROD, "runtime": "swarm"}),
    ],
    ids=lambda v: v if isinstance(v, str) else "-".join(sorted(v)) or "default",
)
def test_the_program_passes(stack: str, config: dict[str, Any]) -> None:
    found = run(stack, **config).resources
    judged = [r for r in found if any(r.type in rule.types for rule in RULES)]
    assert {VOLUME} < {r.type for r in judged} <= {CONTAINER, SERVICE, VOLUME}
    broken = [
        f"{r.name}: {rule.name}: {message}"
        for r in judged
        for rule in RULES
        for message in rule.violations(r.type, r.inputs)
    ]
    assert broken == []


def test_swarm_on_all_addresses_needs_the_policy_config() -> None:
    found = run("dev", runtime="swarm", exposeAddress="192.0.2.7").resources
    broken = {rule.name for r in found for rule in RULES if rule.violations(r.type, r.inputs)}
    assert broken == {"not-on-all-addresses"}
