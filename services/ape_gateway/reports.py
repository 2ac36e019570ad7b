"""The wire of POST /agents/report, from each container of agents every few seconds.

    {source, number, agents: [[slot, state]], memory_bytes, steps: [[result, seconds, since]],
     sessions: [{slot, result, reason, steps, seconds, detail?, repaired?,
                 run?, session, scenario, phase, late}], lost}

`source` names the process, `number` its batch of steps and sessions: a number is counted once,
however often it is sent. The answer has the interval that the gateway asks for:

    {counted, report_after_seconds, abort_run?}

`abort_run`: the run whose sessions the agents are to cancel.

`seconds` and `since` may be null, see Step of the agent. `detail` states in words why a session
failed; `repaired` has the repairs of the model's calls, {kind: count}. A report with nothing done
is a heartbeat. Its header `Authorization: Bearer TOKEN` signs it (ape_contracts.report_token).

`run` and the keys after it: of a session that the gateway granted in a run; `session` is its number
in the run, `late` the seconds from its planned start to its real one. POST /agents/transcript has
what was said in one that failed:

    {slot, run, session, scenario, reason, detail, messages: [{role, ...}]}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import Any

from ape_contracts import metrics

MAX_AGENTS_PER_REPORT = 1000
MAX_REPAIRS = 1_000_000
MAX_COUNT = 10**9
# Of a step, of a session.
MAX_SECONDS = 1e7
MAX_MEMORY_BYTES = 1e13
_SOURCE = re.compile(r"[!-~]{1,64}")
PHASES = ("warm_up", "main", "ramp_down")
_RUN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_SCENARIO = re.compile(r"[a-z0-9_-]{1,40}")
MAX_MESSAGES, MAX_TRANSCRIPT_BYTES = 2000, 64 << 10


class ReportError(Exception):
    """A report breaks the wire format; the message names the key and the rule."""


@dataclass(frozen=True)
class Step:
    result: str
    seconds: float | None
    since: float | None


@dataclass(frozen=True)
class Session:
    slot: int
    result: str
    reason: str
    seconds: float
    detail: str = ""
    repaired: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    # Of a run; empty: it belongs to none.
    run: str = ""
    session: int = 0


@dataclass(frozen=True)
class Transcript:
    """`text`: all of it, as JSON."""

    slot: int
    run: str
    session: int
    reason: str
    text: bytes


@dataclass(frozen=True)
class Report:
    source: str
    number: int
    agents: tuple[tuple[int, str], ...]
    memory_bytes: float
    steps: tuple[Step, ...]
    sessions: tuple[Session, ...]
    lost: int


def parse(raw: Any, max_slot: int) -> Report:
    """A report that can be counted as a whole. Raises ReportError."""
    if not isinstance(raw, dict):
        raise ReportError("The body must be a JSON object.")
    source = raw.get("source")
    if not isinstance(source, str) or not _SOURCE.fullmatch(source):
        raise ReportError("source: must be a text of 1 to 64 characters of ASCII, without blanks.")
    report = Report(
        source,
        _whole(raw.get("number"), "number", 1),
        tuple(_agent(item, max_slot) for item in _list(raw, "agents", MAX_AGENTS_PER_REPORT)),
        _number(raw.get("memory_bytes", 0), "memory_bytes", MAX_MEMORY_BYTES),
        tuple(_step(item) for item in _list(raw, "steps", metrics.REPORT_STEPS)),
        tuple(_session(item) for item in _list(raw, "sessions", metrics.REPORT_SESSIONS)),
        _whole(raw.get("lost", 0), "lost", 0),
    )
    slots = [slot for slot, _ in report.agents]
    if not slots or len(set(slots)) < len(slots):
        raise ReportError("agents: must name each agent of the container once.")
    if {session.slot for session in report.sessions} - set(slots):
        raise ReportError("sessions: slot must be that of one of the agents.")
    return report


def _list(raw: dict[str, Any], key: str, most: int) -> list[Any]:
    found = raw.get(key, [])
    if not isinstance(found, list) or len(found) > most:
        raise ReportError(f"{key}: must be a list of at most {most}.")
    return found


def _whole(value: Any, where: str, least: int, most: int = MAX_COUNT) -> int:
    if type(value) is not int or not least <= value <= most:
        raise ReportError(f"{where}: must be a whole number from {least} to {most}.")
    return value


def _number(value: Any, where: str, most: float = MAX_SECONDS) -> float:
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise ReportError(f"{where}: must be a number from 0 to {most:g}.")
    return float(value)


def _agent(raw: Any, max_slot: int) -> tuple[int, str]:
    if not isinstance(raw, list) or len(raw) != 2 or raw[1] not in metrics.AGENT_STATES:
        raise ReportError(f"agents: each must be [slot, one of {', '.join(metrics.AGENT_STATES)}].")
    return _whole(raw[0], "agents: slot", 1, max_slot), raw[1]


def _step(raw: Any) -> Step:
    if not isinstance(raw, list) or len(raw) != 3 or raw[0] not in metrics.STEP_RESULTS:
        raise ReportError(
            f"steps: each must be [one of {', '.join(metrics.STEP_RESULTS)}, seconds, since]."
        )
    seconds, since = (None if v is None else _number(v, "steps: seconds") for v in raw[1:])
    return Step(raw[0], seconds, since)


def _session(raw: Any) -> Session:
    if not isinstance(raw, dict):
        raise ReportError("sessions: each must be an object.")
    result, reason = raw.get("result"), raw.get("reason")
    if result == metrics.SUCCESS:
        reason = metrics.GOAL_MET
    elif result != metrics.FAILURE:
        raise ReportError(f"result: must be {metrics.SUCCESS} or {metrics.FAILURE}.")
    elif reason not in metrics.FAILURE_REASONS:
        raise ReportError(f"reason: must be one of {', '.join(metrics.FAILURE_REASONS)}.")
    return Session(
        _whole(raw.get("slot"), "sessions: slot", 1),
        str(result),
        str(reason),
        _number(raw.get("seconds"), "seconds"),
        _detail(raw.get("detail", "")),
        _repaired(raw.get("repaired", {})),
        _whole(raw.get("steps", 0), "sessions: steps", 0),
        *_of_run(raw),
    )


def _of_run(raw: dict[str, Any]) -> tuple[str, int]:
    """The run and the number of the session; the run is empty if it belongs to none.

    Scenario, phase and lateness are checked, and then taken from what was granted.
    """
    if raw.get("run") is None:
        return "", 0
    _matching(raw.get("scenario"), "scenario", _SCENARIO)
    if raw.get("phase") not in PHASES:
        raise ReportError(f"phase: must be one of {', '.join(PHASES)}.")
    _number(raw.get("late", 0), "late")
    return _matching(raw["run"], "run", _RUN), _whole(raw.get("session"), "session", 0)


def _matching(value: Any, where: str, pattern: re.Pattern[str]) -> str:
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ReportError(f"{where}: must be a text that matches {pattern.pattern}.")
    return value


def parse_transcript(raw: Any, max_slot: int) -> Transcript:
    """A transcript that can be kept and shown. Raises ReportError."""
    if not isinstance(raw, dict):
        raise ReportError("The body must be a JSON object.")
    if raw.get("reason") not in metrics.FAILURE_REASONS:
        raise ReportError(f"reason: must be one of {', '.join(metrics.FAILURE_REASONS)}.")
    messages = _list(raw, "messages", MAX_MESSAGES)
    if not all(isinstance(each, dict) and isinstance(each.get("role"), str) for each in messages):
        raise ReportError("messages: each must be an object with a role.")
    kept = {
        "slot": _whole(raw.get("slot"), "slot", 1, max_slot),
        "run": _matching(raw.get("run"), "run", _RUN),
        "session": _whole(raw.get("session"), "session", 0),
        "scenario": _matching(raw.get("scenario"), "scenario", _SCENARIO),
        "reason": raw["reason"],
        "detail": _detail(raw.get("detail", "")),
        "messages": messages,
    }
    text = json.dumps(kept, separators=(",", ":")).encode()
    if len(text) > MAX_TRANSCRIPT_BYTES:
        raise ReportError(f"messages: must be at most {MAX_TRANSCRIPT_BYTES >> 10} KiB.")
    return Transcript(kept["slot"], kept["run"], kept["session"], kept["reason"], text)


def _detail(value: Any) -> str:
    """Printable and bounded: it quotes the model and the provider."""
    if not isinstance(value, str):
        raise ReportError("detail: must be a text.")
    text = value[: metrics.MAX_DETAIL_CHARS]
    return "".join(c if c.isprintable() else " " for c in text).strip()


def _repaired(value: Any) -> dict[str, int]:
    if not isinstance(value, dict) or not value.keys() <= set(metrics.REPAIR_KINDS):
        raise ReportError(f"repaired: must be counts of {', '.join(metrics.REPAIR_KINDS)}.")
    return {k: _whole(count, "repaired", 0, MAX_REPAIRS) for k, count in value.items()}
