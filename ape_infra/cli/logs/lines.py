"""Lines of a log: how they are parsed, filtered, and printed."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.text import Text

from ape_contracts.text import plain

COLORS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
_PLAIN = ("ts", "level", "service", "msg")


@dataclass(frozen=True)
class Line:
    """One line. `ts`: its time as RFC 3339 in UTC, which sorts; `fields`: its JSON object, if any.

    The time is the writer's own; without one, Docker's, which is when the line arrived.
    """

    ts: str
    name: str
    text: str
    fields: Mapping[str, Any] | None

    @classmethod
    def of(cls, name: str, raw: bytes) -> Line:
        ts, _, text = raw.decode(errors="replace").rstrip("\r\n").partition(" ")
        fields = None
        if text.startswith("{"):
            try:
                fields = json.loads(text)
                # NaN and 1e999 are not JSON, and would not be in what we print.
                json.dumps(fields, allow_nan=False)
            except (ValueError, RecursionError):
                fields = None
        own = str((fields or {}).get("ts", ""))
        return cls(own if _TIME.fullmatch(own) else ts, name, text, fields)

    @property
    def pretty(self) -> str:
        if self.fields is None:
            return self.text
        more = " ".join(f"{k}={v}" for k, v in self.fields.items() if k not in _PLAIN)
        level = str(self.fields.get("level", "")).upper()
        return f"{level:<7} {self.fields.get('msg', '')} {more}".rstrip()


class Filter:
    """Passes the lines that match a pattern, and the lines of one session in every container.

    A session's lines carry its id or its trace id; the trace id is learned from the lines.
    """

    def __init__(self, grep: str | None, session: str | None) -> None:
        self._grep = re.compile(grep) if grep else None
        self._ids = {session} if session else set()

    @property
    def ids(self) -> frozenset[str]:
        """The session's id, and the ids of its traces that are known."""
        return frozenset(self._ids)

    def learn(self, line: Line) -> None:
        fields = line.fields
        if fields and fields.get("session") in self._ids:
            if trace := fields.get("trace_id"):
                self._ids.add(str(trace))

    def passes(self, line: Line) -> bool:
        self.learn(line)
        if self._ids and not any(i in line.text for i in self._ids):
            return False
        return self._grep is None or bool(self._grep.search(line.text))


def last(found: list[Line], tail: int) -> list[Line]:
    """The last `tail` lines of each container."""
    left: dict[str, int] = {}
    those = []
    for line in reversed(found):
        left[line.name] = left.get(line.name, tail) - 1
        if left[line.name] >= 0:
            those.append(line)
    return those[::-1]


def printer(width: int, as_json: bool) -> Callable[[Line], None]:
    """A function that prints a line; `width`: of the column with the container's name."""
    to = Console(highlight=False, soft_wrap=True)

    def put(line: Line) -> None:
        if as_json:
            ours = {"container": line.name, "ts": line.ts}
            fields = line.fields or {"msg": line.text}
            # A container cannot pass its line off as another's.
            rest = {key: value for key, value in fields.items() if key not in ours}
            print(json.dumps(ours | rest), flush=True)
            return
        color = COLORS[zlib.crc32(line.name.encode()) % len(COLORS)]
        to.print(
            Text.assemble(
                (f"{plain(line.name):<{width}} ", color),
                f"{plain(line.ts[11:23])} ",
                plain(line.pretty),
            )
        )

    return put
