"""The rows and transcripts of sessions, which a run takes from the gateway one after the other."""

from __future__ import annotations

from ape_infra.runs.client import NO_ANSWER, Services
from ape_infra.runs.store import RunFolder

# Rows of an answer, and answers of an interval, at most.
PAGE, MAX_PAGES = 2000, 20


class SessionFiles:
    """`last`: number of the gateway's last row. `missed`: rows that it had no longer."""

    def __init__(self, services: Services, folder: RunFolder) -> None:
        self._services, self._folder = services, folder
        self._taken = self.last = self.missed = 0

    def restarted(self) -> None:
        """The gateway has lost the rows that were not taken yet."""
        self.missed += max(0, self.last - self._taken)
        self._taken = self.last = 0

    def take(self) -> None:
        """Append the sessions that ended since."""
        for _ in range(MAX_PAGES):
            try:
                found = self._services.sessions(self._taken)
            except NO_ANSWER:
                return
            rows = [row for row in found.get("sessions") or [] if isinstance(row, dict)]
            missed = found.get("missed")
            self.missed += missed if isinstance(missed, int) else 0
            if not rows:
                return
            self._folder.add_sessions(rows)
            self._taken = max(self._taken, *(int(row.get("n") or 0) for row in rows))
            if len(rows) < PAGE:
                return

    def take_transcripts(self) -> None:
        try:
            self._folder.add_transcripts(self._services.transcripts())
        except NO_ANSWER:
            pass  # Taken at the next interval.
