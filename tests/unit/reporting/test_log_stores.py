"""Clients of the log stores, against a server that records what it is asked."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from ape_infra.observability.log_queries import LogQuery, Match
from ape_infra.reporting.log_stores import (
    Client,
    Entry,
    LogStoreError,
    Loki,
    VictoriaLogs,
    nanoseconds,
)

pytestmark = pytest.mark.unit
QUERY = LogQuery((Match("stack", "=", "dev"),), grep="x")
LOKI_ANSWER = {
    "data": {
        "result": [
            {"stream": {"service": "proxy"}, "values": [["3", "c"], ["1", "a"]]},
            {"stream": {"service": "agent"}, "values": [["2", "b"]]},
        ]
    }
}
# The separators U+2028 and U+0085 are part of a line; only a line feed ends one.
VICTORIALOGS_ANSWER = """\
{"_time":"2026-01-01T00:00:01.000000003Z","_msg":"c\u2028\u0085ü","service":"proxy"}
{"_time":"2026-01-01T00:00:01Z","_msg":"a","service":"agent"}
"""


class Server:
    def __init__(self) -> None:
        self.answer, self.status = b"", 200
        self.asked: list[tuple[str, dict[str, str]]] = []
        made = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                params = {k: v for k, (v,) in parse_qs(parts.query).items()}
                made.asked.append((parts.path, params))
                self.send_response(made.status)
                self.end_headers()
                self.wfile.write(made.answer)

            def log_message(self, *_: object) -> None:
                pass

        self.http = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    # The default interval of 0.5 s delays the end of each test.
    threading.Thread(target=made.http.serve_forever, args=(0.01,), daemon=True).start()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_loki_returns_the_newest_lines_ordered_by_time(server: Server) -> None:
    server.answer = json.dumps(LOKI_ANSWER).encode()
    found = Loki(server.url + "/").newest(QUERY, 1.5, 2, limit=10)
    assert [(entry.at, entry.line) for entry in found] == [(1, "a"), (2, "b"), (3, "c")]
    assert found[1].labels == {"service": "agent"}
    ((path, params),) = server.asked
    assert path == "/loki/api/v1/query_range"
    assert params == {
        "query": '{stack="dev"} |~ "x"',
        "start": "1500000000",
        "end": "2000000000",
        "limit": "10",
        "direction": "backward",
    }


def test_victorialogs_returns_the_newest_lines_ordered_by_time(server: Server) -> None:
    server.answer = VICTORIALOGS_ANSWER.encode()
    at = nanoseconds("2026-01-01T00:00:01Z")
    assert VictoriaLogs(server.url).newest(QUERY, 1.5, 2, limit=10) == [
        Entry(at, "a", {"service": "agent"}),
        Entry(at + 3, "c\u2028\u0085ü", {"service": "proxy"}),
    ]
    ((path, params),) = server.asked
    assert path == "/select/logsql/query"
    assert params == {
        "query": '{stack="dev"} ~"x"',
        "start": "1500000000",
        "end": "2000000000",
        "limit": "10",
    }


@pytest.mark.parametrize("client", [Loki, VictoriaLogs])
def test_error_states_the_url_and_the_reason(server: Server, client: type[Client]) -> None:
    server.answer, server.status = b"cannot parse query", 400
    with pytest.raises(LogStoreError, match=rf"{server.url}/.+: cannot parse query$"):
        client(server.url).newest(QUERY, 0, 1)
    with pytest.raises(LogStoreError, match="ConnectionError"):
        client("http://127.0.0.1:9").newest(QUERY, 0, 1)


def test_time_has_nanoseconds() -> None:
    assert nanoseconds("1970-01-01T00:00:01.000000001Z") == 1_000_000_001
    assert nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert nanoseconds("1970-01-01T00:00:01Z") == 1_000_000_000
