"""A completion that comes as server-sent events: read as it comes, with only the message kept."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ape_service.completion_stream import Assembly, TooLarge, error_in, status_of

# Of a line, and of the lines of one event.
MAX_EVENT_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"
_ENDED_EARLY = {"error": {"code": "stream_ended", "message": "The model's answer ended early."}}


class Stream:
    """`headers`: of the answer, once it has begun; names in lower case."""

    def __init__(self) -> None:
        self.headers: Mapping[str, str] | None = None
        self._rest, self._lines, self._kind = b"", b"", ""
        self._is_first = True
        self._assembly = Assembly()
        self._error: dict[str, Any] | None = None

    def begin(self, headers: Mapping[str, str]) -> None:
        self.headers = headers

    def feed(self, data: bytes) -> None:
        """The next bytes, cut anywhere. Raises TooLarge."""
        lines = (self._rest + data).splitlines(True)
        # A line break may come in two parts.
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        for line in lines:
            self._line(line.rstrip(b"\r\n"))
        if len(self._rest) + len(self._lines) > MAX_EVENT_BYTES:
            raise TooLarge(f"an event of more than {MAX_EVENT_BYTES} bytes")

    def end(self) -> None:
        """The stream has ended, maybe within a line. Raises TooLarge."""
        rest, self._rest = self._rest, b""
        self._line(rest.rstrip(b"\r\n"))
        self._line(b"")

    def _line(self, line: bytes) -> None:
        if self._is_first:
            line, self._is_first = line.removeprefix(_MARK), False
        if line.startswith(b"data:"):
            self._data(line[5:])
        elif line.startswith(b"event:"):
            self._kind = line[6:].strip().decode("utf-8", "replace")[:40]
        elif not line:
            self._kind, self._lines = "", b""

    def _data(self, data: bytes) -> None:
        """An event has one line, nearly always; one that is not JSON continues on the next.

        Some servers leave out the empty lines between events.
        """
        text = self._lines + data
        try:
            event = json.loads(text)
        except (ValueError, RecursionError):
            self._lines = text + b"\n" if data.strip() != b"[DONE]" else b""
            return
        self._lines = b""
        if not isinstance(event, dict):
            return
        try:
            if error := error_in(event, self._kind):
                self._error = self._error or error
            else:
                self._assembly.add(event)
        except TooLarge:
            raise
        except (ValueError, TypeError, AttributeError, LookupError):
            # A chunk in a form that nobody knows.
            return

    def reply(self) -> tuple[int, dict[str, Any]]:
        """Status and body, as they would be without a stream."""
        if self._error is not None:
            return status_of(self._error), self._error
        if not self._assembly.is_finished:
            return 502, _ENDED_EARLY
        return 200, self._assembly.completion()

    @property
    def is_whole(self) -> bool:
        """Whether nothing that matters can follow."""
        return self._error is not None or self._assembly.is_finished
