"""Why sessions failed: the most frequent details, in bounded memory."""

from __future__ import annotations

from collections import Counter
from typing import Any

# Details of failed sessions: kept, and shown in the summary.
MAX_DETAILS, SHOWN_DETAILS = 200, 10


class Failures:
    """Counts failed sessions by reason and detail; beyond MAX_DETAILS the rarest are dropped."""

    def __init__(self) -> None:
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, reason: str, detail: str) -> None:
        if (reason, detail) not in self._counts and len(self._counts) >= MAX_DETAILS:
            # Of the rarest, the one that was first seen longest ago.
            del self._counts[min(self._counts, key=self._counts.__getitem__)]
        self._counts[reason, detail] += 1

    def __len__(self) -> int:
        return len(self._counts)

    def most_frequent(self) -> list[dict[str, Any]]:
        return [
            {"reason": reason, "detail": detail, "sessions": count}
            for (reason, detail), count in self._counts.most_common(SHOWN_DETAILS)
        ]
