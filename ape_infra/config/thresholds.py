"""Thresholds of a run as text, and the metrics that they may name.

    METRIC{LABEL="value", ...}.AGGREGATE OPERATOR NUMBER abort after DURATION

    http_req_duration{endpoint="POST /checkout"}.p95 < 0.5
    session_success >= 0.95
    http_req_failed < 5% abort after 30s

Labels, `after` with its duration, `abort`, and except for distributions the aggregate may be left
out. It is all one text, since Pulumi accepts no list of texts and objects.
Names follow k6 where it has one.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ape_contracts.text import plain
from ape_infra.config.durations import DurationError, seconds

Kind = Literal["distribution", "ratio", "count", "amount", "speed"]
# Aggregates by kind. The first one counts if a threshold names none; `distribution` needs one.
AGGREGATES: dict[Kind, tuple[str, ...]] = {
    "distribution": ("min", "mean", "p50", "p90", "p95", "p99", "max", "count"),
    "ratio": ("rate",),
    "count": ("count", "rate"),
    "amount": (),
    "speed": ("rate",),
}
SYNONYMS = {"avg": "mean", "med": "p50"}
OPERATORS = ("<=", "<", ">=", ">", "==", "!=")
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
STATUSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
# Values of labels that need no knowledge of the run.
_VALUES = {"method": METHODS, "status": STATUSES}
# Unit of a number -> its factor, and the unit of the metrics that it is for.
_UNITS = {"ms": (0.001, "s"), "s": (1.0, "s"), "m": (60.0, "s"), "%": (0.01, "ratio")}
_REQUEST = ("endpoint", "method", "scenario")
_SESSION = ("scenario",)
MAX_CHARACTERS = 500


class Metric(NamedTuple):
    """A metric that a threshold may name."""

    name: str
    kind: Kind
    unit: str
    labels: tuple[str, ...]
    description: str


METRICS: dict[str, Metric] = {
    row[0]: Metric(*row)
    for row in (
        (
            *("http_req_duration", "distribution", "s", _REQUEST),
            "Time from a request of an agent to the target's answer, at the gateway.",
        ),
        (
            *("http_req_failed", "ratio", "ratio", _REQUEST),
            "Share of requests with a status of 400 or more, or without an answer.",
        ),
        ("http_reqs", "count", "requests", (*_REQUEST, "status"), "Requests to the target."),
        (
            *("session_success", "ratio", "ratio", _SESSION),
            "Share of the sessions that succeeded, of those that succeeded or failed.",
        ),
        (
            *("session_duration", "distribution", "s", _SESSION),
            "Time of a session from its planned start to its end.",
        ),
        (
            *("session_lateness", "distribution", "s", _SESSION),
            "Time from the planned start of a session to its start.",
        ),
        ("sessions", "count", "sessions", _SESSION, "Sessions that succeeded or failed."),
        (
            *("dropped_sessions", "count", "sessions", ()),
            "Sessions that no agent was free to start in time.",
        ),
        (
            *("goodput", "speed", "sessions/s", _SESSION),
            "Sessions per second that succeeded within their limits.",
        ),
        (
            *("ttft", "distribution", "s", ()),
            "Time to first token: from a request to the model to the first token of its answer.",
        ),
        (
            *("itl", "distribution", "s", ()),
            "Inter-token latency: mean time between two tokens of an answer.",
        ),
        (
            *("completion_duration", "distribution", "s", ()),
            "Time of a completion, with its queue and its retries.",
        ),
        (
            *("tokens_per_second", "distribution", "tokens/s", ()),
            "Tokens per second of an answer of the model.",
        ),
        ("tokens", "count", "tokens", (), "Tokens of prompts and completions."),
        ("tokens_in", "count", "tokens", (), "Tokens of prompts."),
        ("tokens_out", "count", "tokens", (), "Tokens of completions."),
        (
            *("cost_dollars", "amount", "dollars", ()),
            "Cost of the model, where its prices are known.",
        ),
        ("model_failed", "ratio", "ratio", (), "Share of completions that failed."),
    )
}


class ThresholdError(Exception):
    """A text is not a threshold: the position (from 1), the rule and the remedy."""

    def __init__(self, position: int, rule: str, remedy: str) -> None:
        self.position, self.rule, self.remedy = position, rule, remedy
        super().__init__(f"at character {position}: {rule} {remedy}")


@dataclass(frozen=True)
class Threshold:
    """`text`: without `abort`. `aggregate`: one of AGGREGATES, or p with a number.

    `limit`: in the metric's unit. `abort`: end the run as soon as it is not met, `delay_seconds`
    after the start at the earliest.
    """

    text: str
    metric: str
    labels: tuple[tuple[str, str], ...]
    aggregate: str
    operator: str
    limit: float
    abort: bool = False
    delay_seconds: float = 0.0

    @property
    def percentile(self) -> float | None:
        """The percentile of an aggregate such as p95; None: it is not one."""
        found = re.fullmatch(r"p(\d.*)", self.aggregate)
        return float(found[1]) if found else None


def did_you_mean(word: str, known: Collection[str]) -> str:
    """Return a remedy that names the likeliest of the known words, and all of them if they are few.

    The text ends with a full stop.
    """
    likely = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    first = f"Did you mean {likely[0]}? " if likely else ""
    shown = ", ".join(list(known)[:20]) + (", ..." if len(known) > 20 else "")
    return f"{first}Use one of: {shown}."


class _Reader:
    """Reads a text from left to right."""

    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def take(self, pattern: str) -> str:
        """Return what matches next, after blanks; empty: nothing does."""
        self.skip()
        found = re.compile(pattern).match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found[0]

    def skip(self) -> None:
        while self.text[self.at : self.at + 1].isspace():
            self.at += 1

    @property
    def ended(self) -> bool:
        self.skip()
        return self.at == len(self.text)

    @property
    def rest(self) -> str:
        """The next word, as an error shows it."""
        self.skip()
        found = re.compile(r"\S{1,40}").match(self.text, self.at)
        return f'"{plain(found[0])}"' if found else "the end of the text"

    def error(self, rule: str, remedy: str, at: int | None = None) -> ThresholdError:
        return ThresholdError((self.at if at is None else at) + 1, rule, remedy)


def parse(text: str) -> Threshold:
    """Return the threshold of a text. Raises ThresholdError."""
    if len(text) > MAX_CHARACTERS:
        raise ThresholdError(
            MAX_CHARACTERS, f"has more than {MAX_CHARACTERS} characters.", "Shorten it."
        )
    reader = _Reader(text)
    metric = _metric(reader)
    labels = _labels(reader, metric)
    aggregate = _aggregate(reader, metric)
    operator = _operator(reader)
    limit = _limit(reader, metric, aggregate)
    expression = text[: reader.at].strip()
    abort, delay = _abort(reader)
    if not reader.ended:
        rule = f"has {reader.rest} after its end."
        raise reader.error(rule, "Remove it, or write abort or abort after 30s.")
    return Threshold(expression, metric.name, labels, aggregate, operator, limit, abort, delay)


def _abort(reader: _Reader) -> tuple[bool, float]:
    """Whether a run is aborted, and the seconds after its start at the earliest."""
    if not reader.take(r"abort\b"):
        return False, 0.0
    if not reader.take(r"after\b"):
        return True, 0.0
    reader.skip()
    at = reader.at
    try:
        return True, seconds(reader.take(r"[\w.]+"))
    except DurationError as error:
        raise reader.error(f"after has no duration: {error}.", "Write after 30s.", at) from None


def _metric(reader: _Reader) -> Metric:
    reader.skip()
    at = reader.at
    name = reader.take(r"[A-Za-z_]\w*")
    if name in METRICS:
        return METRICS[name]
    shown = f'"{name}"' if name else reader.rest
    raise reader.error(f"{shown} is not a metric.", did_you_mean(name, METRICS), at)


def _labels(reader: _Reader, metric: Metric) -> tuple[tuple[str, str], ...]:
    found: dict[str, str] = {}
    if not reader.take(r"\{"):
        return ()
    while not reader.take(r"\}"):
        if found and not reader.take(","):
            raise reader.error(f"{reader.rest} follows a label.", "Write a comma or }.")
        name, value = _label(reader, metric)
        if name in found:
            raise reader.error(f"{name} is given twice.", "Remove one.")
        found[name] = value
    return tuple(sorted(found.items()))


def _label(reader: _Reader, metric: Metric) -> tuple[str, str]:
    reader.skip()
    at = reader.at
    name = reader.take(r"[A-Za-z_]\w*")
    if name not in metric.labels:
        shown = f'"{name}"' if name else reader.rest
        remedy = did_you_mean(name, metric.labels) if metric.labels else "Remove the braces."
        raise reader.error(f"{shown} is not a label of {metric.name}.", remedy, at)
    if not reader.take("=(?!=)"):
        raise reader.error(f"{reader.rest} follows {name}.", f'Write {name}="...".')
    reader.skip()
    at = reader.at
    value = reader.take(r"\"[^\"]+\"|'[^']+'")[1:-1]
    if not value:
        raise reader.error(f"{name} has no value in quotes.", f'Write {name}="...".', at)
    if name in _VALUES and value not in _VALUES[name]:
        rule = f'"{plain(value)}" is not a value of {name}.'
        raise reader.error(rule, did_you_mean(value, _VALUES[name]), at)
    return name, value


def _aggregate(reader: _Reader, metric: Metric) -> str:
    allowed = AGGREGATES[metric.kind]
    if not reader.take(r"\."):
        if metric.kind != "distribution":
            return allowed[0] if allowed else ""
        raise reader.error(
            f"{metric.name} has no aggregate.",
            f"Write {metric.name}.p95, for example, or another of: {', '.join(allowed)}.",
        )
    reader.skip()
    at = reader.at
    word = reader.take(r"p\(\d+(\.\d+)?\)|p\d+(\.\d+)?(?!\w)|[A-Za-z_]\w*")
    name = SYNONYMS.get(word, re.sub(r"[()]", "", word))
    if name in allowed:
        return name
    percentile = re.fullmatch(r"p(\d+(?:\.\d+)?)", name)
    if metric.kind == "distribution" and percentile:
        if float(percentile[1]) <= 100:
            return f"p{float(percentile[1]):g}"
        raise reader.error(f"{word} is above the 100th percentile.", "Write p99, for example.", at)
    rule = f"{word or reader.rest} is not an aggregate of {metric.name}."
    remedy = did_you_mean(name, allowed) if allowed else "Remove it: the metric is one number."
    raise reader.error(rule, remedy, at)


def _operator(reader: _Reader) -> str:
    reader.skip()
    at = reader.at
    found = reader.take(r"[<>=!]+")
    if found in OPERATORS:
        return found
    rule = f"{found or reader.rest} is not an operator."
    raise reader.error(rule, f"Use one of: {', '.join(OPERATORS)}.", at)


def _limit(reader: _Reader, metric: Metric, aggregate: str) -> float:
    reader.skip()
    at = reader.at
    number = reader.take(r"-?\d{1,15}(\.\d{1,15})?(?![.\d])")
    if not number:
        raise reader.error(f"{reader.rest} is not a number.", "Write one such as 0.5.", at)
    value, unit_at = float(number), reader.at
    unit = reader.take(r"ms|s|m|%")
    own = "" if aggregate == "count" else metric.unit
    if unit:
        factor, kind = _UNITS[unit]
        if kind != own:
            rule = f"{unit} is not a unit of {metric.name}."
            raise reader.error(rule, f"Write a number of {metric.unit}.", unit_at)
        value = round(value * factor, 15)
    if own == "ratio" and not 0 <= value <= 1:
        rule = f"{number}{unit} is outside of 0 to 1, where {metric.name} lies."
        raise reader.error(rule, "Write a share such as 0.95 or 95%.", at)
    return value
