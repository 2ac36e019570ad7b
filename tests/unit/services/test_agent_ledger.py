"""Results are kept in batches until they are counted, in bounded memory."""

from __future__ import annotations

import pytest

from ape_agent import ledger
from ape_agent.results import SessionResult, Step

pytestmark = pytest.mark.unit
STEP = Step(1, "ok", 0.12345678, None)
DONE = SessionResult(1, "success", "goal_met", 6, 1.5)


def test_batch_stays_the_same_until_it_is_acknowledged() -> None:
    kept = ledger.ReportQueue()
    kept.step(STEP)
    kept.session(DONE)
    first = kept.batch()
    assert first == {
        "number": 1,
        "steps": [["ok", 0.1235, None]],
        "sessions": [
            {"slot": 1, "result": "success", "reason": "goal_met", "steps": 6, "seconds": 1.5}
        ],
        "lost": 0,
    }
    kept.step(STEP)
    assert kept.batch() is first
    kept.acknowledge()
    assert not kept.empty
    second = kept.batch()
    assert (second["number"], len(second["steps"]), second["sessions"]) == (2, 1, [])
    kept.acknowledge()
    assert kept.empty


def test_report_queue_is_bounded_and_counts_lost_results() -> None:
    kept = ledger.ReportQueue()
    for _ in range(ledger.MAX_STEPS + 7):
        kept.step(STEP)
    for _ in range(ledger.MAX_SESSIONS + 2):
        kept.session(DONE)
    assert kept.has_backlog
    steps = sessions = lost = 0
    while not kept.empty:
        batch = kept.batch()
        assert len(batch["steps"]) <= ledger.BATCH_STEPS
        assert len(batch["sessions"]) <= ledger.BATCH_SESSIONS
        steps, sessions = steps + len(batch["steps"]), sessions + len(batch["sessions"])
        lost += batch["lost"]
        kept.acknowledge()
    assert (steps, sessions, lost) == (ledger.MAX_STEPS, ledger.MAX_SESSIONS, 9)
    assert not kept.has_backlog
