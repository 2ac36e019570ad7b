"""Logs: one JSON object per line on stdout, with the trace id of the current request."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar

trace_id: ContextVar[str] = ContextVar("trace_id", default="")


class JsonLines(logging.Formatter):
    def __init__(self, service: str) -> None:
        super().__init__()
        self.service = service

    def content(self, record: logging.LogRecord) -> dict[str, object]:
        """The fields of the line, in order."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, object] = {
            "ts": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "service": self.service,
            "msg": record.getMessage(),
        }
        if trace := trace_id.get():
            line["trace_id"] = trace
        line |= getattr(record, "ape", {})
        if record.exc_info and record.exc_info[1] is not None:
            # The type and the place, not the message: it may quote a body.
            error, at = record.exc_info[1], record.exc_info[2]
            while at is not None and at.tb_next is not None:
                at = at.tb_next
            where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
            line |= {"error": type(error).__name__, "at": where}
        return line

    def format(self, record: logging.LogRecord) -> str:
        return json.dumps(self.content(record), default=str)


class TextLines(JsonLines):
    """The same as text: time, level, message, and the other fields as key=value."""

    def format(self, record: logging.LogRecord) -> str:
        line = self.content(record)
        ts, level, _, message = (line.pop(key) for key in ("ts", "level", "service", "msg"))
        rest = (f"{key}={value}" for key, value in line.items())
        return " ".join([str(ts), str(level).upper(), str(message), *rest])


def fields(**values: object) -> dict[str, object]:
    """Fields for a log line: `log.info("request", extra=fields(route="shop"))`; no bodies."""
    return {"ape": values}


def setup(service: str, level: str = "INFO", form: str = "json") -> None:
    """Send all logs to stdout; `form` is json or text."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter((JsonLines if form == "json" else TextLines)(service))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
