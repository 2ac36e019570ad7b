"""A target that stands still for S of every P seconds, and what the figures of a run say of it.

With the open executor, a session is due every 1/r seconds; without the pause it takes b. A session
has one request. What is due from b before a pause until its end, at `a` since its begin, ends with
the pause: it takes S - a, from S + b down to b. So of the n sessions that start per period, k are
longer than S + b - k/r, and

    p99 = S + b - 0.01 n / r

With N agents, the first N sessions of a pause hold them all. Those due later wait for an agent,
which comes at the end of the pause. With less than r (S + b - L) agents, L the `maxLate`, some are
dropped. Per pause, where those that wait at its end are at most N:

    dropped = r (S + b - L) - N
    late by more than 0.1 s = r (L - 0.1)
    p99 of lateness = L - 0.01 n / r, with n = r P - dropped

With more agents none is dropped or late. With the closed executor, A agents with a cycle of c
seconds have A slow sessions per pause, whatever c is: a share of c / (c + P - S). If that is below
1 %, p99 is b, as if there were no pause.

A run lasts whole periods, with the pauses in their middle. b is the p50 of the run. Tolerances: of
times 0.1 s, which is two arrivals; of counts 3 per pause.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bench.load.target import Plan
from bench.load.world import Run, document, percentile, together, world

RATE, PERIOD, PAUSE = 20.0, 20.0, 2.0
MAX_LATE, LATE = 0.5, 0.1
ENOUGH, FEW, CLOSED = 60, 10, 2
OFF_SECONDS, OFF_COUNT = 0.1, 3
# Of the closed run, which is to start as many sessions as the open ones without a pause.
CYCLE = CLOSED / RATE


def expected_open(agents: int, base: float, periods: int) -> dict[str, float]:
    """What the arithmetic says; `base`: the seconds of a session without the pause."""
    dropped = max(0.0, RATE * (PAUSE + base - MAX_LATE) - agents)
    late = RATE * (MAX_LATE - LATE) if dropped else 0.0
    one_percent = 0.01 * (RATE * PERIOD - dropped) / RATE
    return {
        "sessions": periods * (RATE * PERIOD - dropped),
        "dropped": periods * dropped,
        "late": periods * late,
        "session_p99": PAUSE + base - one_percent,
        "lateness_p99": MAX_LATE - one_percent if dropped else 0.0,
    }


def expected_closed(base: float, cycle: float, periods: int) -> dict[str, float]:
    return {
        "sessions": periods * CLOSED * (1 + (PERIOD - PAUSE) / cycle),
        "dropped": 0.0,
        "late": 0.0,
        "session_p99": base,
        "slow": float(periods * CLOSED),
    }


def seen(run: Run) -> dict[str, float]:
    sessions = run.summary.sessions
    return {
        "sessions": float(sessions.started),
        "dropped": float(sessions.dropped or 0),
        "late": float(sessions.late),
        "session_p50": sessions.duration.p50 or 0.0,
        "session_p99": sessions.duration.p99 or 0.0,
        "session_max": sessions.duration.max or 0.0,
        "lateness_p99": sessions.lateness.p99 or 0.0,
        "slow": float(sum(seconds > PAUSE / 2 for seconds in together(run.log))),
        "failed": float(sessions.failed + sessions.aborted),
        "target_p99": percentile(together(run.log), 0.99),
    }


def measure(periods: int, folder: Path) -> dict[str, Any]:
    """The run -> what is expected and what was seen."""
    plan = Plan(median=0.02, spread=0.0, period=PERIOD, pause=PAUSE)
    seconds, found = periods * PERIOD, {}
    open_run = document("open", seconds, RATE, max_late_seconds=MAX_LATE)
    for name, agents in (("enough", ENOUGH), ("few", FEW)):
        with world(folder / name, agents, endpoints=1) as made:
            made.target.begin(plan)
            was = seen(made.run(open_run))
            base = was["session_p50"]
            found[name] = {"expected": expected_open(agents, base, periods), "seen": was}
            if name == "few":
                pause = max(0.01, CYCLE - base)
                scenario = {"name": "default", "think_time_seconds": pause}
                closed = document("closed", seconds, CLOSED, scenarios=[scenario])
                made.target.begin(plan)
                was = seen(made.run(closed))
    base = was["session_p50"]
    cycle = base + pause
    found["closed"] = {"expected": expected_closed(base, cycle, periods), "seen": was}
    return {"periods": periods, "runs": found}


def broken(found: dict[str, Any]) -> list[str]:
    """The rules that do not hold."""
    missed = []
    for name, each in found["runs"].items():
        if each["seen"]["failed"]:
            missed.append(f"{name}: sessions failed")
        for key, value in each["expected"].items():
            off = abs(each["seen"][key] - value)
            limit = OFF_COUNT * found["periods"]
            if key == "sessions" and name == "closed":
                # The pause and the cycle differ by the timers' delay.
                limit = 0.1 * value
            if off > (OFF_SECONDS if key.endswith("_p99") else limit):
                missed.append(f"{name}: {key} is {each['seen'][key]:.2f}, not {value:.2f}")
    return missed


def text(found: dict[str, Any]) -> str:
    keys = ("sessions", "dropped", "late", "lateness_p99", "session_p99", "session_max", "slow")
    lines = [f"{'expected / seen':16}" + "".join(f"{key:>15}" for key in keys)]
    for name, each in found["runs"].items():
        cells = []
        for key in keys:
            digits = 2 if "_" in key else 0
            value = each["expected"].get(key)
            expected = "" if value is None else f"{value:.{digits}f} / "
            cells.append(f"{expected}{each['seen'][key]:.{digits}f}")
        lines.append(f"{name:16}" + "".join(f"{cell:>15}" for cell in cells))
    return "\n".join(lines)
