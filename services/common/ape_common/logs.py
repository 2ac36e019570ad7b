"""Logs: one JSON object a line on stdout, with the trace id of the request at hand."""

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

    def format(self, record: logging.LogRecord) -> str:
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
            # The type and the place, not the message: it may quote what was sent.
            error, at = record.exc_info[1], record.exc_info[2]
            while at is not None and at.tb_next is not None:
                at = at.tb_next
            where = f"{at.tb_frame.f_code.co_filename}:{at.tb_lineno}" if at else ""
            line |= {"error": type(error).__name__, "at": where}
        return json.dumps(line, default=str)


def fields(**values: object) -> dict[str, object]:
    """Fields for a log line: `log.info("what", extra=fields(route="shop"))`. No bodies in them."""
    return {"ape": values}


def setup(service: str, level: str = "INFO", form: str = "json") -> None:
    """Send all logs to stdout; `form` is json or text."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(
        JsonLines(service)
        if form == "json"
        else logging.Formatter("%(asctime)s %(levelname)s %(message)s")
    )
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
