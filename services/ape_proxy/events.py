"""Measures a stream of server-sent events while it is forwarded, line by line."""

from __future__ import annotations

import json
import time
from typing import Any

from ape_proxy.answers import finish_label, is_usable, without, words_in
from ape_proxy.completion import size_of_event
from ape_proxy.errors import ProxyError
from ape_proxy.metrics import Measured
from ape_service.completion_stream import Assembly, TooLarge, error_in

# Of one event; a longer line is not part of a stream of tokens.
MAX_LINE_BYTES = 1 << 20
_MARK = b"\xef\xbb\xbf"
_REASONING = ("reasoning", "reasoning_content", "reasoning_details")


class Events:
    """First and last token, usage and end of one stream.

    `show_usage`: whether the client asked for the event that has only the usage. `secrets`: what
    the words of an error must not have.
    """

    def __init__(
        self,
        measured: Measured,
        *,
        show_usage: bool,
        assembly: Assembly | None = None,
        secrets: tuple[str, ...] = (),
    ) -> None:
        self._measured, self._show_usage, self._assembly = measured, show_usage, assembly
        self.secrets = secrets
        self._rest, self._kind = b"", ""
        # The beginning of an event that has several lines.
        self._lines = b""
        self._is_first = True
        # Whether a chunk of a completion has come, and one in a form that nobody knows.
        self.begun = self.unknown = False
        # Whether the model named a finish reason.
        self.complete = False
        self.error: dict[str, Any] | None = None
        self._usable = False

    @property
    def failed(self) -> bool:
        return self.error is not None

    def feed(self, chunk: bytes) -> bytes:
        """The complete lines so far, to be forwarded. Raises ProxyError if a line is too long."""
        data = self._rest + chunk
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        if len(self._rest) > MAX_LINE_BYTES:
            raise _too_large(f"an event of more than {MAX_LINE_BYTES} bytes")
        now = time.monotonic()
        return b"".join([self._passed(line, now) for line in data[:cut].splitlines(True)])

    def end(self) -> bytes:
        """The rest when the stream ends: a line without a line break."""
        rest, self._rest = self._rest, b""
        return self._passed(rest, time.monotonic()) if rest else b""

    def _passed(self, line: bytes, now: float) -> bytes:
        """What is forwarded of a line."""
        if self._is_first:
            line, self._is_first = line.removeprefix(_MARK), False
        if not line.startswith(b"data:"):
            if line.startswith(b"event:"):
                self._kind = line[6:].strip().decode("utf-8", "replace")
            elif not line.strip():
                self._kind, self._lines = "", b""
            return line
        if line[5:].strip() == b"[DONE]":
            return line
        data = self._lines + line[5:]
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            # Forwarded unchanged; the client may understand it.
            self._lines = data if len(data) <= MAX_LINE_BYTES else b""
            self.unknown = True
            return line
        self._lines = b""
        try:
            passes = self._see(event, now)
        except TooLarge as problem:
            raise _too_large(str(problem)) from None
        except (ValueError, TypeError, AttributeError, RecursionError, LookupError):
            self.unknown = True
            return line
        if self.error is not None:
            return without(self.secrets, line)
        return line if passes else b""

    def _see(self, event: dict[str, Any], now: float) -> bool:
        if error := error_in(event, self._kind):
            self.error = self.error or error
            self._measured.error = words_in(error)
            return True
        choices = event.get("choices")
        measured = self._measured
        if choices:
            self.begun = True
        if size := size_of_event(event):
            measured.token(now, size)
            if not measured.reasoned or not self._usable:
                deltas = [choice.get("delta") or {} for choice in choices or ()]
                measured.reasoned = measured.reasoned or any(map(_reasons, deltas))
                self._usable = self._usable or any(map(is_usable, deltas))
                measured.usable = self._usable
        for choice in choices or ():
            if reason := choice.get("finish_reason"):
                self.complete = True
                measured.finish = finish_label(reason)
        if self._assembly is not None:
            self._assembly.add(event)
        usage = event.get("usage")
        if usage is None:
            return True
        measured.usage(usage)
        return bool(choices) or self._show_usage


def _too_large(words: str) -> ProxyError:
    message = f"The model's answer is too large: {words}."
    return ProxyError(502, "upstream_error", "answer_too_large", message)


def _reasons(delta: dict[str, Any]) -> bool:
    return any(delta.get(name) for name in _REASONING)
