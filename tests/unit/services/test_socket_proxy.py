"""The socket proxy: what passes, and that nothing else reaches the daemon."""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import docker
import pytest
import pytest_asyncio
from docker.errors import NotFound
from hypothesis import given
from hypothesis import strategies as st

from ape_contracts.service_settings import VARIABLE, SocketProxySettings, encode
from ape_socket_proxy.__main__ import check
from ape_socket_proxy.proxy import Proxy
from ape_socket_proxy.rules import forwarded, parsed, raised, refusal, scoped
from ape_socket_proxy.views import Scope
from monitoring.inventory import Inventory, Watcher
from monitoring.model import from_inspect
from tests.support.fake_docker import FakeDocker

pytestmark = pytest.mark.unit

PASS = [
    "/containers/json",
    "/containers/json?all=1&filters=%7B%7D",
    "/v1.41/containers/json",
    "/v1.41/containers/ape-dev-agent-0001/json",
    "/containers/0123456789abcdef/json?size=0",
    "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D",
    "/v1.41/info",
    "/version",
    "/_ping",
]
STOP = [
    "/",
    "/containers/x/logs",
    "/containers/x/archive?path=/",
    "/containers/x/export",
    "/containers/x/attach/ws",
    "/containers/x/json/../../y/export",
    "/containers/../images/json",
    "/containers/..%2Fimages/json",
    "/containers//json",
    "/v1.41/v1.41/info",
    "/images/json",
    "/secrets",
    "/networks",
    "/swarm",
    "/exec/x/json",
    "/info/",
    "//info",
    "http://docker/info",
    "/info#x",
    "/_ping\t",
    "*",
]


@pytest.mark.parametrize("target", PASS)
def test_read_only_paths_are_forwarded(target: str) -> None:
    assert refusal(f"GET {target} HTTP/1.1\r\nHost: x".encode()) is None


@pytest.mark.parametrize("target", STOP)
def test_other_paths_are_rejected(target: str) -> None:
    why = refusal(f"GET {target} HTTP/1.1\r\nHost: x".encode())
    assert why
    assert why.status in (400, 403)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "PATCH", "get", "CONNECT"])
@pytest.mark.parametrize("target", PASS)
def test_methods_other_than_get_are_rejected(method: str, target: str) -> None:
    why = refusal(f"{method} {target} HTTP/1.1\r\nHost: x".encode())
    assert why
    assert why.status == 403


@pytest.mark.parametrize(
    "header", ["Content-Length: 5", "Transfer-Encoding: chunked", "content-length : 5"]
)
def test_request_with_a_body_is_rejected(header: str) -> None:
    assert refusal(f"GET /info HTTP/1.1\r\n{header}".encode())


def test_log_paths_are_forwarded_only_when_enabled() -> None:
    for target in ("/containers/x/logs?stdout=1&follow=1", "/v1.41/networks"):
        head = f"GET {target} HTTP/1.1\r\nHost: x".encode()
        assert refusal(head)
        assert refusal(head, logs=True) is None
    assert refusal(b"GET /networks/x HTTP/1.1\r\nHost: x", logs=True)


def test_daemon_gets_none_of_the_callers_headers() -> None:
    head = b"GET /v1.41/info HTTP/1.1\r\nHost: evil\r\nUpgrade: tcp\r\nConnection: Upgrade"
    assert forwarded(parsed(head).target()) == (
        b"GET /v1.41/info HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize("target", [*PASS, "/containers/x/logs?a=1", "/v1.41/networks"])
def test_the_daemon_gets_the_path_that_was_checked(target: str) -> None:
    assert parsed(f"GET {target} HTTP/1.1".encode()).target() == target


@given(
    st.text(max_size=40) | st.builds(json.dumps, st.dictionaries(st.text(), st.lists(st.text())))
)
def test_any_filters_are_refused_or_keep_the_labels_of_the_stack(text: str) -> None:
    labels = ["ape.project=ape", "ape.stack=dev"]
    try:
        query = scoped(urlencode({"all": 1, "filters": text}), labels)
    except ValueError:
        return
    found = parse_qs(query)
    assert found["all"] == ["1"]
    (filters,) = found["filters"]
    assert json.loads(filters)["label"][-2:] == labels


def test_filters_are_taken_in_both_forms_and_once() -> None:
    both = ['{"label": ["a=b"], "type": ["container"]}', '{"label": {"a=b": true}, "type": {}}']
    for text in both:
        found = json.loads(parse_qs(scoped(urlencode({"filters": text}), ["x=y"]))["filters"][0])
        assert found["label"] == ["a=b", "x=y"]
    with pytest.raises(ValueError, match="more than once"):
        scoped("filters=%7B%7D&filters=%7B%7D", [])


OURS = {"ape.project": "ape", "ape.stack": "dev", "ape.service": "agent", "ape.agents": "1"}
PROJECT = "ape-dev"
SECRET = "of-another-stack-0123456789"
SETTINGS = json.dumps({"slot": "4+3", "gateway_url": "http://gateway", "note": SECRET})


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    """A daemon that ignores every filter, with a container of the stack and one of another."""
    made = FakeDocker(tmp_path)
    made.put("a" * 64, "ape-dev-agents-00.3.x", labels=OURS, env=[f"APE_SETTINGS={SETTINGS}"])
    other = OURS | {"ape.stack": "prod"}
    made.put("b" * 64, "ape-prod-gateway", labels=other, env=[f"TOKEN={SECRET}"])
    yield made
    made.close()


@contextlib.contextmanager
def running(upstream: Path, listen: Path, **settings: Any) -> Iterator[Path]:
    """The proxy as a process, with the settings of the stack ape-dev."""
    given = SocketProxySettings(
        project="ape", stack="dev", listen=str(listen), docker_socket=str(upstream), **settings
    )
    env = os.environ | {VARIABLE: encode(given)}
    with subprocess.Popen([sys.executable, "-m", "ape_socket_proxy"], env=env) as process:
        try:
            for _ in range(200):
                if check(str(listen)):
                    break
                time.sleep(0.05)
            yield listen
        finally:
            process.terminate()


@pytest.fixture
def client(fake: FakeDocker, tmp_path: Path) -> Iterator[docker.APIClient]:
    with running(fake.path, tmp_path / "down", logs=True) as listen:
        made = docker.APIClient(base_url=f"unix://{listen}", version="1.41", timeout=10)
        yield made
        made.close()


def test_the_socket_proxy_shows_no_container_of_another_stack(client: docker.APIClient) -> None:
    assert [found["Id"] for found in client.containers(all=True)] == ["a" * 64]
    assert [found["Name"] for found in client.networks()] == ["ape-dev-edge"]
    for name in ("b" * 64, "ape-prod-gateway", "nothing"):
        with pytest.raises(NotFound, match="No such container"):
            client.inspect_container(name)
        with pytest.raises(NotFound, match="No such container"):
            client.logs(name)
    assert client.logs("a" * 64) == b"a line\n"
    assert set(client.info()) == {"ServerVersion", "NCPU"}


def test_the_socket_proxy_shows_no_environment_but_the_slot(client: docker.APIClient) -> None:
    found = client.inspect_container("a" * 64)
    assert found["Config"]["Env"] == ["APE_AGENT_SLOT=4+3"]
    assert SECRET not in json.dumps(found)
    assert from_inspect(found).slot == 7


def test_the_socket_proxy_passes_events_of_its_stack_only(
    client: docker.APIClient, fake: FakeDocker
) -> None:
    stream = client.events(decode=True, filters={"type": ["container"]})
    fake.wait_for_stream()
    for key in ("b", "a"):
        fake.emit("oom", key * 64)
    event = next(stream)
    assert (event["Actor"]["ID"], event["Action"]) == ("a" * 64, "oom")
    assert fake.filters["label"] == ["ape.project=ape", "ape.stack=dev"]
    stream.close()


def test_the_monitor_follows_its_stack_through_the_socket_proxy(
    fake: FakeDocker, tmp_path: Path
) -> None:
    with running(fake.path, tmp_path / "down") as listen:
        inventory = Inventory(PROJECT)
        watcher = Watcher(inventory, f"unix://{listen}")
        watcher.start()
        try:
            assert watcher.listed.wait(10)
            assert [c.name for c in inventory.snapshot()] == ["agent-0007"]
            fake.put("c" * 64, "ape-dev-gateway", labels=OURS | {"ape.service": "gateway"})
            fake.emit("start", "c" * 64)
            for _ in range(100):
                if len(inventory.snapshot()) == 2:
                    break
                time.sleep(0.05)
            assert {c.service for c in inventory.snapshot()} == {"agent", "gateway"}
        finally:
            watcher.stop()


def test_a_list_of_a_thousand_containers_passes(client: docker.APIClient, fake: FakeDocker) -> None:
    for number in range(1000):
        fake.put(f"{number:064x}", f"ape-dev-é-{number}", labels=OURS | {"x": "ü" * 300})
    assert len(client.containers(all=True)) == 1001


class Daemon:
    """Records what reaches it, and answers with `body`."""

    def __init__(self, body: bytes = b"hello") -> None:
        self.heads: list[bytes] = []
        self.open, self.body = 0, body

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + self.body)
        await writer.drain()
        if b"/events" in head:
            await reader.read()
        self.open -= 1
        writer.close()


@pytest_asyncio.fixture
async def proxied(tmp_path: Path) -> AsyncIterator[tuple[Daemon, str]]:
    daemon, upstream, listen = Daemon(), str(tmp_path / "up"), str(tmp_path / "down")
    proxy = Proxy(upstream, Scope("ape", "dev"), with_logs=False)
    async with (
        await asyncio.start_unix_server(daemon, upstream),
        await asyncio.start_unix_server(proxy.handle, listen),
    ):
        yield daemon, listen


async def ask(listen: str, request: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(listen)
    writer.write(request)
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    return answer


async def test_socket_proxy_forwards_reads_and_rejects_the_rest(
    proxied: tuple[Daemon, str],
) -> None:
    daemon, listen = proxied
    assert (await ask(listen, b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n")).endswith(b"hello")
    for request in (
        b"POST /containers/create HTTP/1.1\r\nHost: x\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET /images/json HTTP/1.1\r\n\r\n",
        b"GET /events?filters=x HTTP/1.1\r\n\r\n",
        b"GET /events?filters=" + b"%5B" * 3000 + b" HTTP/1.1\r\n\r\n",
    ):
        answer = await ask(listen, request)
        assert answer.startswith((b"HTTP/1.1 403", b"HTTP/1.1 400"))
        assert b"message" in answer
    # A second request behind the first is not read.
    two = b"GET /version HTTP/1.1\r\n\r\nPOST /containers/create HTTP/1.1\r\n\r\n"
    await ask(listen, two)
    assert all(head.startswith(b"GET /version ") for head in daemon.heads)
    assert await asyncio.to_thread(check, listen)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"hello",
        b"[" * 100_000,
        b'[{"Id": 1}',
        b"[1]",
        b'"x"',
        b"\xff",
        b'{"Config": []}',
        b'[{"Labels": 1}]',
        b'{"Actor": 1}\n',
        b'[{"a": "' + b"x" * 5_000_000,
    ],
)
@pytest.mark.parametrize("target", ["containers/json", "containers/x/json", "info"])
async def test_an_answer_that_is_not_dockers_ends_the_request(
    proxied: tuple[Daemon, str], body: bytes, target: str
) -> None:
    daemon, listen = proxied
    daemon.body = body
    answer = await ask(listen, f"GET /{target} HTTP/1.1\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 502", b"HTTP/1.1 404", b"HTTP/1.1 200"))
    assert b"Id" not in answer


async def test_caller_that_disconnects_ends_its_event_stream(proxied: tuple[Daemon, str]) -> None:
    daemon, listen = proxied
    daemon.body = b""
    reader, writer = await asyncio.open_unix_connection(listen)
    writer.write(b"GET /events HTTP/1.1\r\n\r\n")
    await reader.readuntil(b"chunked")
    assert daemon.open == 1
    writer.close()
    for _ in range(100):
        if daemon.open == 0:
            break
        await asyncio.sleep(0.02)
    assert daemon.open == 0


@pytest.mark.parametrize(
    ("asked", "oldest", "sent"),
    [
        ("/v1.41", "1.44", "/v1.44"),
        ("/v1.52", "1.44", "/v1.52"),
        ("/v1.9", "1.12", "/v1.12"),
        ("/v1.43", "", "/v1.43"),
        ("/v1.43", "1.44/../x", "/v1.43"),
        ("", "1.44", ""),
    ],
)
def test_a_request_has_at_least_the_oldest_version_of_the_daemon(
    asked: str, oldest: str, sent: str
) -> None:
    assert raised(asked, oldest) == sent


async def test_a_client_with_a_fixed_version_reads_a_newer_docker(
    proxied: tuple[Daemon, str],
) -> None:
    daemon, listen = proxied
    daemon.body = b'{"ApiVersion": "1.52", "MinAPIVersion": "1.44"}'
    for _ in range(2):
        await ask(listen, b"GET /v1.43/containers/x/json HTTP/1.1\r\n\r\n")
    asked = [head.split(b" ")[1] for head in daemon.heads]
    assert asked == [b"/version", *[b"/v1.44/containers/x/json"] * 2]


async def test_missing_daemon_gets_502(tmp_path: Path) -> None:
    listen = str(tmp_path / "down")
    proxy = Proxy(str(tmp_path / "none"), Scope("ape", "dev"), with_logs=False)
    async with await asyncio.start_unix_server(proxy.handle, listen):
        for target in (b"info", b"version", b"containers/json", b"containers/x/json", b"events"):
            answer = await ask(listen, b"GET /" + target + b" HTTP/1.1\r\n\r\n")
            assert answer.startswith(b"HTTP/1.1 502")
        assert not await asyncio.to_thread(check, listen)
    assert not check(str(tmp_path / "nothing")), "and without a proxy it is not well"


def test_the_socket_proxy_does_not_start_without_a_stack() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "ape_socket_proxy"],
        env=os.environ | {VARIABLE: "{}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "APE_SETTINGS.stack: is empty" in done.stdout + done.stderr
