"""Measures a stream of server-sent events while it is forwarded, line by line."""

from __future__ import annotations

import json
import time
from typing import Any

from ape_proxy.answers import finish_label, is_usable, words_in
from ape_proxy.completion import Assembly, size_of_event
from ape_proxy.errors import ProxyError
from ape_proxy.metrics import Measured

# Of one event; a longer line is not part of a stream of tokens.
MAX_LINE_BYTES = 1 << 20


class Events:
    """First token, gaps between tokens, usage and end of one stream.

    `show_usage`: whether the client asked for the event that has only the usage.
    """

    def __init__(
        self, measured: Measured, *, show_usage: bool, assembly: Assembly | None = None
    ) -> None:
        self._measured, self._show_usage, self._assembly = measured, show_usage, assembly
        self._rest = b""
        # Whether the model named a finish reason.
        self.complete = False
        self.failed = False
        self._usable = False

    def feed(self, chunk: bytes) -> bytes:
        """The complete lines so far, to be forwarded. Raises ProxyError if a line is too long."""
        data = self._rest + chunk
        cut = data.rfind(b"\n") + 1
        self._rest = data[cut:]
        if len(self._rest) > MAX_LINE_BYTES:
            message = f"The model sent an event larger than {MAX_LINE_BYTES} bytes."
            raise ProxyError(502, "upstream_error", "answer_too_large", message)
        now = time.monotonic()
        return b"".join([line for line in data[:cut].splitlines(True) if self._passes(line, now)])

    def end(self) -> bytes:
        """The rest when the stream ends: a line without a line break."""
        rest, self._rest = self._rest, b""
        return rest if rest and self._passes(rest, time.monotonic()) else b""

    def _passes(self, line: bytes, now: float) -> bool:
        if not line.startswith(b"data:"):
            return True
        if line[5:].strip() == b"[DONE]":
            return True
        try:
            event = json.loads(line[5:])
            return self._see(event, now)
        except (ValueError, TypeError, AttributeError, RecursionError, LookupError):
            # Forwarded unchanged; the client may understand it.
            return True

    def _see(self, event: dict[str, Any], now: float) -> bool:
        if event.get("error"):
            self.failed = True
            self._measured.error = words_in(event)
            return True
        choices = event.get("choices")
        if size := size_of_event(event):
            self._measured.token(now, size)
            if not self._usable:
                deltas = (choice.get("delta") or {} for choice in choices or ())
                self._usable = self._measured.usable = any(map(is_usable, deltas))
        for choice in choices or ():
            if reason := choice.get("finish_reason"):
                self.complete = True
                self._measured.finish = finish_label(reason)
        if self._assembly is not None:
            self._assembly.add(event)
        usage = event.get("usage")
        if usage is None:
            return True
        self._measured.usage(usage)
        return bool(choices) or self._show_usage
