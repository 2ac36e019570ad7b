"""What sessions leave: their steps and their results, as the gateway gets them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ape_contracts import metrics

# What people read of an error of the provider, or of the model's last words.
MAX_WORDS_CHARS = 200
# Keys as providers issue them, and other long words that could be one.
_KEY = re.compile(
    r"(?i)\b(?:bearer\s+|(?:sk|pk|gsk|csk|xai|nvapi|hf|key)[-_]|AIza)[\w*.+/=-]{6,}"
    r"|(?<![\w/.-])(?=[A-Za-z0-9]*[0-9])(?=[A-Za-z0-9]*[A-Za-z])[A-Za-z0-9]{32,256}"
)


@dataclass(frozen=True)
class Step:
    """One decision of the model and its request. `result`: one of metrics.STEP_RESULTS.

    `seconds`: until the answer; None if no request was sent. `since`: seconds from the answer
    before it to its start, for the model and the pause; None for the first step.
    """

    slot: int
    result: str
    seconds: float | None
    since: float | None


@dataclass(frozen=True)
class SessionResult:
    """A finished session. `reason`: goal_met, or one of metrics.FAILURE_REASONS.

    `detail`: why it failed, in words. `repaired`: repairs of the model's calls, by kind. The rest
    is for the agent itself: `acted`: whether a request was answered; `unreachable`: whether a peer
    was; `wait_seconds`: for how long further sessions would fail for the same reason. `of_run`:
    what the report of a session of a run has besides.
    """

    slot: int
    result: str
    reason: str
    steps: int
    seconds: float
    detail: str = ""
    repaired: Counter[str] = field(default_factory=Counter)
    acted: bool = False
    unreachable: bool = False
    wait_seconds: float | None = None
    of_run: Mapping[str, Any] = field(default_factory=dict)

    def report(self) -> dict[str, Any]:
        made: dict[str, Any] = {
            "slot": self.slot,
            "result": self.result,
            "reason": self.reason,
            "steps": self.steps,
            "seconds": self.seconds,
        }
        if self.detail:
            made["detail"] = self.detail
        if self.repaired:
            made["repaired"] = dict(self.repaired)
        return {**made, **self.of_run}


class SessionFailed(Exception):
    """`reason`: one of metrics.FAILURE_REASONS; `detail`: at most metrics.MAX_DETAIL_CHARS."""

    def __init__(
        self,
        reason: str,
        detail: str = "",
        *,
        unreachable: bool = False,
        wait_seconds: float | None = None,
    ) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, printable(detail, metrics.MAX_DETAIL_CHARS)
        self.unreachable, self.wait_seconds = unreachable, wait_seconds


def printable(text: str, most: int) -> str:
    """The beginning of a text of somebody else, on one line and without keys."""
    # More than is kept, for blanks and keys in it.
    beginning = text[: 8 * most]
    plain = "".join(c if c.isprintable() else " " for c in beginning)
    plain = _KEY.sub("[key]", " ".join(plain.split()))
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def quoted(words: str) -> str:
    """The beginning of the model's words."""
    return f'The model: "{printable(words, MAX_WORDS_CHARS)}"' if words else "The model: nothing."
