"""What the gateway and the inference proxy answer about a run, as plain data of this package."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ape_contracts.sketch import Sketch, SketchError
from ape_contracts.text import plain
from ape_infra.runs.tally import Key, Tally

DRAINING, RUNNING, STOPPING, ENDED, NONE = "draining", "running", "stopping", "ended", "none"
MAIN = "main"
STATUS, ERROR = "status", "error"
MODEL_DURATIONS = {
    "ttft": "ttft",
    "itl": "itl",
    "seconds": "duration",
    "queue": "queue",
    "tokens_per_second": "tokens_per_second",
}


class SnapshotError(Exception):
    """An answer has another form; the text states where."""


@dataclass(frozen=True)
class Status:
    """The state of a run in the gateway. `stage`: from 0. `idle`, `agents`: of those alive."""

    id: str
    state: str
    elapsed: float
    stage: int
    target: float
    active: int
    idle: int
    agents: int
    started: int
    ended: int
    dropped: int
    phase: str
    why_ended: str
    next_session: int

    @classmethod
    def of(cls, answer: Any) -> Status:
        found = _object(answer, "status")
        return cls(
            id=str(found.get("id") or ""),
            state=str(found.get("state") or NONE),
            elapsed=_number(found.get("elapsed_seconds"), "elapsed_seconds"),
            stage=int(_number(found.get("stage"), "stage")),
            target=_number(found.get("target"), "target"),
            active=int(_number(found.get("active"), "active")),
            idle=int(_number(found.get("idle"), "idle")),
            agents=int(_number(found.get("agents"), "agents")),
            started=int(_number(found.get("started"), "started")),
            ended=int(_number(found.get("ended"), "ended")),
            dropped=int(_number(found.get("dropped"), "dropped")),
            phase=str(found.get("phase") or MAIN),
            why_ended=str(found.get("why_ended") or ""),
            next_session=int(_number(found.get("next_session"), "next_session")),
        )


@dataclass(frozen=True)
class GatewayResults:
    """`boot`: another one after a restart. `tally`: since the run's start in this boot."""

    boot: str
    run: str
    tally: Tally
    lost: int
    last_session: int

    @classmethod
    def of(cls, answer: Any) -> GatewayResults:
        found = _versioned(answer, "results of the gateway")
        tally = Tally()
        for item in _objects(found, "requests"):
            _add_requests(tally, item)
        for item in _objects(found, "sessions"):
            _add_sessions(tally, item)
        for item in _objects(found, "failures"):
            key = Key("failures", _text(item.get("reason")), endpoint=_text(item.get("detail")))
            tally.add(key, _number(item.get("sessions"), "failures.sessions"))
        return cls(
            str(found.get("boot")),
            str(found.get("run") or ""),
            tally,
            int(_number(found.get("lost"), "lost")),
            int(_number(found.get("last_session"), "last_session")),
        )


@dataclass(frozen=True)
class ProxyResults:
    """`exhausted`: the words about a spend limit that is used up; else empty."""

    boot: str
    tally: Tally
    exhausted: str = ""

    @classmethod
    def of(cls, answer: Any) -> ProxyResults:
        found = _versioned(answer, "results of the inference proxy")
        tally = Tally()
        for name in ("completions", "refused"):
            for label, number in _object(found.get(name) or {}, name).items():
                tally.add(Key("model", name, label=_text(label)), _number(number, name))
        for name in ("retries", "tokens_in", "tokens_out", "cost_dollars"):
            if found.get(name) is not None:
                tally.add(Key("model", name), _number(found[name], name))
        for name, what in MODEL_DURATIONS.items():
            if found.get(name) is not None:
                tally.sketches[Key("model", what)] = _sketch(found[name], name)
        budget = _object(found.get("budget") or {}, "budget")
        words = str(budget.get("words") or "The model's spend limit is used up.")
        return cls(str(found.get("boot")), tally, words if budget.get("exhausted") is True else "")


def _add_requests(tally: Tally, item: dict[str, Any]) -> None:
    key = Key(
        "requests",
        "seconds",
        _text(item.get("scenario")),
        _text(item.get("phase")),
        _text(f"{item.get('method')} {item.get('endpoint')}"),
    )
    for what, name in ((STATUS, "statuses"), (ERROR, "errors")):
        for label, number in _object(item.get(name) or {}, name).items():
            tally.add(key._replace(what=what, label=_text(label)), _number(number, name))
    for name in ("bytes_sent", "bytes_received"):
        tally.add(key._replace(what=name), _number(item.get(name), name))
    _merge(tally, key, _sketch(item.get("seconds"), "requests.seconds"))


def _add_sessions(tally: Tally, item: dict[str, Any]) -> None:
    key = Key("sessions", "seconds", _text(item.get("scenario")), _text(item.get("phase")))
    for name in ("succeeded", "failed", "aborted", "steps"):
        tally.add(key._replace(what=name), _number(item.get(name), name))
    for label, number in _object(item.get("reasons") or {}, "reasons").items():
        tally.add(key._replace(what="reason", label=_text(label)), _number(number, "reasons"))
    for name in ("seconds", "late"):
        _merge(tally, key._replace(what=name), _sketch(item.get(name), f"sessions.{name}"))


def _merge(tally: Tally, key: Key, sketch: Sketch) -> None:
    before = tally.sketches.get(key)
    tally.sketches[key] = before.merged([sketch]) if before else sketch


def _text(value: Any) -> str:
    """Somebody else's words, as every file can have them."""
    return plain("" if value is None else value)[:300]


def _versioned(answer: Any, name: str) -> dict[str, Any]:
    found = _object(answer, name)
    if found.get("version") != 1:
        raise SnapshotError(f"The {name} have version {found.get('version')!r:.20}, not 1.")
    return found


def _object(value: Any, name: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise SnapshotError(f"{name} is not an object.")
    return value


def _objects(found: dict[str, Any], name: str) -> Iterable[dict[str, Any]]:
    listed = found.get(name, [])
    if not isinstance(listed, list):
        raise SnapshotError(f"{name} is not a list.")
    return [_object(item, name) for item in listed]


def _number(value: Any, name: str) -> float:
    """A number from 0; null is 0."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise SnapshotError(f"{name} is not a number from 0.")
    return value


def _sketch(value: Any, name: str) -> Sketch:
    try:
        return Sketch.of(value)
    except SketchError as error:
        raise SnapshotError(f"{name}: {error}") from None
