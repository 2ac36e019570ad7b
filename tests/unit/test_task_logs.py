"""Logs of Swarm's tasks, from a daemon that answers in frames as Docker does."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import docker
import pytest
import requests

from ape_infra.cli.logs.from_docker import follow, written

pytestmark = pytest.mark.unit
TIME = "2026-01-01T00:00:0{}.000000000Z"


class Daemon(BaseHTTPRequestHandler):
    paths: list[str]

    def do_GET(self) -> None:
        self.paths.append(self.path)
        if "/tasks/gone/" in self.path:
            self.send_error(404)
            return
        self.send_response(200)
        self.end_headers()
        for stream, text in ((1, f"{TIME.format(2)} second\n"), (2, f"{TIME.format(1)} first\n")):
            raw = text.encode()
            self.wfile.write(bytes([stream, 0, 0, 0]) + len(raw).to_bytes(4, "big") + raw)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def client() -> Iterator[docker.DockerClient]:
    Daemon.paths = []
    server = HTTPServer(("127.0.0.1", 0), Daemon)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made = docker.DockerClient(f"tcp://127.0.0.1:{server.server_port}", version="1.41")
    yield made
    made.close()
    server.shutdown()
    server.server_close()


def test_the_lines_of_a_task_are_read_from_both_streams_in_order_of_time(
    client: docker.DockerClient,
) -> None:
    found = written(client, {"t1": "agents-00.1"}, 20, swarm=True)
    assert [(line.name, line.text) for line in found] == [
        ("agents-00.1", "first"),
        ("agents-00.1", "second"),
    ]
    (path,) = Daemon.paths
    assert path.startswith("/v1.41/tasks/t1/logs?")
    assert {"stdout=1", "stderr=1", "timestamps=1", "follow=0", "tail=20"} <= set(
        path.partition("?")[2].split("&")
    )


def test_following_ends_when_every_task_has_ended_or_is_gone(client: docker.DockerClient) -> None:
    names = {"t1": "agents-00.1", "gone": "agents-00.2"}
    found = list(follow(client, names, 5, swarm=True))
    assert sorted(line.text for line in found) == ["first", "second"]


def test_a_removed_task_is_an_error_of_the_daemon(client: docker.DockerClient) -> None:
    with pytest.raises(requests.HTTPError, match="404"):
        written(client, {"gone": "agents-00.2"}, 5, swarm=True)
