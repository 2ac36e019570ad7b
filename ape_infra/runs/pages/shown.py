"""Values as the pages show them. Text of the target or the model stays text, and is bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from markupsafe import Markup, escape

from ape_contracts.text import plain

NONE = "-"
STATES = {
    "passed": "passed",
    "failed": "failed",
    "aborted": "aborted by a threshold",
    "stopped": "stopped by hand",
    "partial": "partial",
}
TONES = {"passed": "good", "failed": "bad", "aborted": "bad"}
MAX_MESSAGE = 20_000


def number(value: float | None, digits: int = 3) -> str:
    """A number with at least `digits` digits, and never with an exponent."""
    if value is None:
        return NONE
    if value == int(value) or abs(value) >= 10**digits:
        return f"{round(value):,}"
    text = f"{value:.{digits}g}"
    return text if "e" not in text else f"{value:.6f}".rstrip("0").rstrip(".")


def seconds(value: float | None) -> str:
    if value is None:
        return NONE
    if value < 0.9995:
        return f"{number(1000 * value)} ms"
    return f"{number(value)} s" if value < 600 else long_time(value)


def long_time(value: float) -> str:
    whole = round(value)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    parts = ((hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join(f"{n} {unit}" for n, unit in parts if n) or "0 s"


def share(value: float | None) -> str:
    """A part of 1 in percent; 0.9996 is not shown as all."""
    if value is None:
        return NONE
    return f"{number(100 * value, 4 if 0.99 <= value < 1 else 3)} %"


def dollars(value: float | None) -> str:
    if value is None:
        return NONE
    return f"${value:,.2f}" if value >= 1 or not value else f"${number(value)}"


def moment(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at))


def of_kind(kind: str, value: float | None) -> str:
    """A value of a difference."""
    return {"seconds": seconds, "share": share}.get(kind, number)(value)


def change(kind: str, value: float | None) -> str:
    """A change in percent, or in points of a share."""
    if value is None:
        return NONE
    text = f"{value:+.1f}" if abs(value) < 1000 else f"{value:+,.0f}"
    text = {"-0.0": "0.0", "+0.0": "0.0"}.get(text, text)
    return f"{text} {'points' if kind == 'share' else '%'}"


def counts(groups: Mapping[str, int]) -> str:
    """Names with their numbers, the most frequent first."""
    found = sorted(groups.items(), key=lambda x: (-x[1], x[0]))
    return ", ".join(f"{number(n)} {name}" for name, n in found if n)


def words(value: Any) -> str:
    """Any value of the settings."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def multiline(text: str) -> Markup:
    """Text with its lines, escaped."""
    left_out = len(text) - MAX_MESSAGE
    shown = plain(text[:MAX_MESSAGE].replace("\r\n", "\n"), lines=True)
    return escape(shown + (f"\n… {left_out:,} more characters" if left_out > 0 else ""))


def _text(content: Any) -> str:
    if content is None:
        return ""
    return (
        content if isinstance(content, str) else json.dumps(content, ensure_ascii=False, indent=1)
    )


def _calls(calls: Any) -> Iterable[str]:
    for call in calls if isinstance(calls, list) else [calls]:
        function = call.get("function") if isinstance(call, dict) else None
        if isinstance(function, dict):
            yield f"{_text(function.get('name'))} {_text(function.get('arguments'))}"
        else:
            yield _text(call)


class Transcript(NamedTuple):
    """A failed session; `size` in characters of the page."""

    reason: str
    title: str
    messages: list[tuple[str, Markup]]
    size: int


def transcript(found: Mapping[str, Any]) -> Transcript:
    """Return what a session's model was shown, what it said, and what the target answered."""
    messages: list[tuple[str, Markup]] = []
    said = found.get("messages")
    for message in said if isinstance(said, list) else []:
        if not isinstance(message, dict):
            messages.append(("", multiline(_text(message))))
            continue
        role = str(message.get("role", ""))[:40]
        if content := _text(message.get("content")):
            messages.append((role, multiline(content)))
        if calls := message.get("tool_calls"):
            messages += [(f"{role} calls", multiline(text)) for text in _calls(calls)]
    title = " · ".join(
        str(part)
        for part in (
            f"Session {found.get('session', NONE)}",
            f"agent {found.get('slot', NONE)}",
            found.get("scenario") or "",
            str(found.get("detail") or "")[:300],
        )
        if part
    )
    size = len(title) + sum(len(role) + len(text) + 60 for role, text in messages)
    return Transcript(str(found.get("reason", "")), title, messages, size)


def fitting(found: Sequence[Transcript], most: int) -> list[Transcript]:
    """Those that take at most `most` characters, the first of each reason before the second."""
    seen: dict[str, int] = {}
    ranked = []
    for at, each in enumerate(found):
        ranked.append((seen.get(each.reason, 0), at, each))
        seen[each.reason] = seen.get(each.reason, 0) + 1
    kept = []
    for _, at, each in sorted(ranked, key=lambda x: x[:2]):
        if each.size <= most:
            most -= each.size
            kept.append((at, each))
    return [each for _, each in sorted(kept, key=lambda x: x[0])]
