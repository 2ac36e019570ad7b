"""An application that is not ours, httpbin, and what agents are to reach in it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpbin  # type: ignore[import-untyped]
from werkzeug.serving import WSGIRequestHandler, make_server

GOAL = "Take a basket, get a ticket number, and hand the ticket in with the basket still there."
ENDPOINTS: list[dict[str, Any]] = [
    {"method": "GET", "path": "/cookies/set/basket/{agent}", "description": "Take a basket."},
    {"method": "GET", "path": "/uuid", "description": "A ticket number."},
    {"method": "GET", "path": "/anything/tickets/{uuid}", "description": "Look at the ticket."},
    {"method": "GET", "path": "/cookies", "description": "What the basket is."},
    {
        "method": "POST",
        "path": "/post",
        "description": "Hand the ticket in.",
        "body": {"ticket": "{uuid}", "for": "{agent}"},
    },
]
# The ticket is a number of an earlier answer; the basket is a cookie of an earlier answer.
SUCCESS: dict[str, Any] = {
    "method": "POST",
    "path": "/post",
    "status": 200,
    "json_path": "json.ticket",
    "matches": "^[0-9a-f]{8}-",
    "checks": [{"json_path": "headers.Cookie", "matches": "^basket=agent-[0-9]{4}$"}],
    "also": [
        {
            "method": "GET",
            "path": "/cookies",
            "status": 200,
            "json_path": "cookies.basket",
            "matches": "^agent-",
        }
    ],
}


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        pass


@contextmanager
def served(host: str) -> Iterator[str]:
    """httpbin at a port of `host`; its base URL."""
    server = make_server(host, 0, httpbin.app, threaded=True, request_handler=_Quiet)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://{host}:{server.server_port}"
    server.shutdown()
    thread.join()
