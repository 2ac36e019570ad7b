"""Alerts to Alertmanager (API v2) and to a webhook.

A receiver keeps the difference between open and sent alerts, with one entry per alert. So its queue
is bounded by the number of alerts, and no alert is sent twice. After an outage of the other side it
sends the alerts that are still open, and not those that were raised and resolved meanwhile.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import requests

from monitoring.alerts import Alert

TIMEOUT_SECONDS = 5.0
# Alertmanager resolves an alert that is not sent again before `endsAt`.
RESEND_SECONDS = 60.0
ENDS_AFTER_SECONDS = 4 * RESEND_SECONDS
BACKOFF_SECONDS = (1.0, 60.0)
MAX_ALERTS = 1000

_log = logging.getLogger(__name__)
AlertId = tuple[str, str]
Post = Callable[[str, Any], None]


def post(url: str, body: Any) -> None:
    """POST JSON. Raises requests.RequestException for every answer but success."""
    answer = requests.post(url, json=body, timeout=TIMEOUT_SECONDS, allow_redirects=False)
    answer.raise_for_status()


@dataclass(frozen=True)
class Notice:
    """A message about an alert: open or resolved."""

    alert: Alert
    resolved: bool


def _time(unix: float) -> str:
    return datetime.fromtimestamp(unix, UTC).isoformat(timespec="milliseconds")


def alertmanager_body(
    notices: list[Notice], project: str, now: float, wall: float
) -> list[dict[str, Any]]:
    """Return the body of POST /api/v2/alerts."""
    made = []
    for notice in notices:
        alert = notice.alert
        labels = {"alertname": alert.name, "severity": alert.severity, "source": "ape-monitor"}
        labels |= {"service": alert.service} if alert.service else {}
        labels |= {"project": project} if project else {}
        made.append(
            {
                "labels": labels,
                "annotations": {
                    "summary": alert.summary,
                    "description": f"{alert.text}. {alert.remedy}",
                },
                "startsAt": _time(wall - (now - alert.since)),
                "endsAt": _time(wall if notice.resolved else wall + ENDS_AFTER_SECONDS),
            }
        )
    return made


def webhook_body(notices: list[Notice], project: str, now: float, wall: float) -> dict[str, Any]:
    """Return {"schema", "project", "alerts": [{"status": "firing" | "resolved", …}]}."""
    return {
        "schema": "ape.monitor.alerts/1",
        "project": project,
        "alerts": [
            {"status": "resolved" if n.resolved else "firing", **n.alert.json(now, wall)}
            for n in notices
        ],
    }


class Receiver:
    """Sends alerts to one URL, from a thread of its own."""

    def __init__(
        self,
        name: str,
        url: str,
        body: Callable[[list[Notice], str, float, float], Any],
        *,
        project: str = "",
        resend: float | None = None,
        send: Post = post,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.name, self.url, self._body, self._project = name, url, body, project
        self._resend, self._send, self._clock, self._wall = resend, send, clock, wall
        self._open: dict[AlertId, Alert] = {}
        self._notified: dict[AlertId, tuple[Alert, float]] = {}
        self._changed = threading.Condition()
        self._stopping = False
        self.sent = self.failed = 0
        self._thread = threading.Thread(target=self._run, name=f"to-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def offer(self, alerts: list[Alert]) -> None:
        """Replace the open alerts."""
        with self._changed:
            self._open = {alert.id: alert for alert in alerts[:MAX_ALERTS]}
            self._changed.notify()

    def stop(self, seconds: float) -> None:
        """Make a last attempt, and end within `seconds`."""
        with self._changed:
            self._stopping = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(seconds)

    def due(self) -> list[Notice]:
        """Return the notices to send now."""
        now = self._clock()
        with self._changed:
            return [
                *(
                    Notice(alert, False)
                    for key, alert in self._open.items()
                    if key not in self._notified
                    or (self._resend is not None and now - self._notified[key][1] >= self._resend)
                ),
                *(
                    Notice(alert, True)
                    for key, (alert, _) in self._notified.items()
                    if key not in self._open
                ),
            ]

    def attempt(self) -> bool:
        """Send the notices that are due; return whether that succeeded."""
        notices = self.due()
        if not notices:
            return True
        try:
            self._send(self.url, self._body(notices, self._project, self._clock(), self._wall()))
        except (requests.RequestException, OSError) as error:
            self.failed += 1
            status = getattr(getattr(error, "response", None), "status_code", None)
            reason = f"it answered {status}" if status else type(error).__name__
            _log.warning("%s: %d alert(s) not sent: %s.", self.name, len(notices), reason)
            return False
        self.sent += 1
        with self._changed:
            for notice in notices:
                if notice.resolved:
                    self._notified.pop(notice.alert.id, None)
                else:
                    self._notified[notice.alert.id] = (notice.alert, self._clock())
        return True

    def _run(self) -> None:
        wait = BACKOFF_SECONDS[0]
        while True:
            succeeded = self.attempt()
            wait = BACKOFF_SECONDS[0] if succeeded else min(BACKOFF_SECONDS[1], wait * 2)
            with self._changed:
                if self._stopping:
                    return
                # Full jitter, so that many monitors do not retry at the same time.
                pause = 1.0 if succeeded else random.uniform(BACKOFF_SECONDS[0], wait)  # noqa: S311
                if succeeded:
                    self._changed.wait(pause)
                else:
                    self._changed.wait_for(lambda: self._stopping, pause)


def receivers(alertmanager: str, webhook: str, project: str) -> list[Receiver]:
    """Return a receiver for each URL that is not empty."""
    made = []
    if alertmanager:
        url = alertmanager.rstrip("/") + "/api/v2/alerts"
        made.append(
            Receiver("alertmanager", url, alertmanager_body, project=project, resend=RESEND_SECONDS)
        )
    if webhook:
        made.append(Receiver("webhook", webhook, webhook_body, project=project))
    return made


def totals(found: list[Receiver]) -> Mapping[tuple[str, str], int]:
    """Map (receiver, "sent" | "failed") to the number of requests."""
    return {
        (r.name, result): count
        for r in found
        for result, count in (("sent", r.sent), ("failed", r.failed))
    }
