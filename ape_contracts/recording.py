"""A recording of a model's answers: JSON lines, {"key": 64 hex digits, "completion": {...}}."""

from __future__ import annotations

import json
import re
from typing import Any

# The maximum size of a Swarm config (moby, MaxConfigSize).
MAX_BYTES = 1000 * 1024
_KEY = re.compile(r"[0-9a-f]{64}")


class RecordingError(Exception):
    """The text is not a recording; the message names the line and the rule."""


def line(key: str, completion: dict[str, Any]) -> str:
    return json.dumps({"key": key, "completion": completion}, separators=(",", ":")) + "\n"


def load(text: str) -> dict[str, dict[str, Any]]:
    """Completions by key; the first with a key counts. Raises RecordingError."""
    if len(text.encode()) > MAX_BYTES:
        raise RecordingError(f"larger than {MAX_BYTES} bytes. Record fewer different sessions.")
    found: dict[str, dict[str, Any]] = {}
    for number, written in enumerate(text.splitlines(), 1):
        if not written.strip():
            continue
        try:
            entry = json.loads(written)
            key, completion = entry["key"], entry["completion"]
            messages = [choice["message"] for choice in completion["choices"]]
            good = isinstance(key, str) and all(isinstance(m, dict) for m in messages)
        except (ValueError, KeyError, TypeError, RecursionError):
            good = False
        if not good or not _KEY.fullmatch(key):
            raise RecordingError(
                f'line {number}: must be {{"key": 64 hex digits, "completion": {{...}}}}. '
                "Use the file of the proxy's GET /recording unchanged."
            )
        found.setdefault(key, completion)
    if not found:
        raise RecordingError("has no answers. Record some first, with modelRecord.")
    return found
