"""Outputs: the file, the page, plain lines, metrics, alerts to receivers."""

import errno
import json
import os
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from ape_contracts import metrics
from monitoring import senders, wire
from monitoring.alerts import Engine, health, readings
from monitoring.console import page
from monitoring.exporter import Exporter, State
from monitoring.model import (
    Container,
    ContainerSample,
    FleetSample,
    KernelLimit,
    MonitorSample,
    Sample,
    SystemSample,
    Usage,
)
from monitoring.output import RETRY_SECONDS, LineFile
from monitoring.senders import RESEND_SECONDS, Receiver, alertmanager_body, webhook_body
from monitoring.text import plain
from monitoring.thresholds import Thresholds
from tests.support.monitored_world import wait_until

pytestmark = pytest.mark.unit


def state(agents: int = 3, *, memory: float = 50.0, odd: str = "odd") -> State:
    """A sample with `agents` agents, a gateway, and a service that failed."""
    usage = Usage(12.5, 100, 10, 64 << 20, 1000, 500, 4096, 8192, 128 << 20, 0.1, 0, 3)
    found = [
        ContainerSample(
            Container(f"{i:064x}", f"agent-{i:04d}", "agent", slot=i, agents=1, health="healthy"),
            usage,
            *(5.0, 50.0, 10.0, memory, 100.0, 50.0, 0.0, 10.0),
        )
        for i in range(1, agents + 1)
    ]
    found.append(ContainerSample(Container("g", "gateway", "gateway", health="healthy"), usage))
    found.append(ContainerSample(Container("o", odd, odd, state="exited", exit_code=1)))
    system = SystemSample(
        cores=2,
        cpu_percent=40.0,
        iowait_percent=1.0,
        memory_percent=60.0,
        disks={"/": 42.0},
        pressure={("cpu", "some"): 12.5},
        limits=[KernelLimit("open files", 10, 1000)],
    )
    made = Sample(
        1e9, found, system, FleetSample(agents, agents, agents, agents, 0), MonitorSample()
    )
    opened = Engine(Thresholds().at_once()).update(100.0, readings(made))
    return State(made, opened, health(opened, made), "ape-dev", 100.0, {("webhook", "sent"): 1})


# The file


def test_a_rotated_file_keeps_complete_lines_in_order(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    file = LineFile(path, max_bytes=1000, keep=2)
    for number in range(200):
        assert file.append(b'{"number": %d}\n' % number)
    file.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        *("samples.jsonl", "samples.jsonl.1", "samples.jsonl.2"),
    ]
    kept = [
        json.loads(line)["number"]
        for name in ("samples.jsonl.2", "samples.jsonl.1", "samples.jsonl")
        for line in (tmp_path / name).read_text().splitlines()
    ]
    assert kept == list(range(kept[0], 200)), "no line is lost between the files"
    assert all(p.stat().st_size <= 1000 for p in tmp_path.iterdir())


def test_a_full_disk_pauses_writing_and_leaves_complete_lines(tmp_path: Path) -> None:
    path, now, full = tmp_path / "samples.jsonl", [0.0], [False]

    def write(fd: int, data: bytes) -> int:
        if full[0]:
            # Half of it is written, as on a real disk.
            return os.write(fd, data[: len(data) // 2])
        return os.write(fd, data)

    file = LineFile(path, clock=lambda: now[0], write=write)
    assert file.append(b'{"a": 1}\n')
    full[0] = True
    assert not file.append(b'{"a": 2}\n')
    assert file.problem == "No space left on device"
    assert path.read_bytes() == b'{"a": 1}\n'
    full[0] = False
    assert not file.append(b'{"a": 3}\n'), "writing is paused"
    now[0] += RETRY_SECONDS
    assert file.append(b'{"a": 4}\n')
    assert path.read_bytes() == b'{"a": 1}\n{"a": 4}\n'


def test_a_disk_error_is_not_raised(tmp_path: Path) -> None:
    def write(fd: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    assert not LineFile(tmp_path / "f", write=write).append(b"{}\n")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full")
def test_a_full_device_is_not_written() -> None:
    assert not LineFile(Path("/dev/full")).append(b"{}\n")


def test_the_partial_line_of_a_killed_writer_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b'{"a": 1}\n{"a": ' + b"x" * 70_000)
    LineFile(path).append(b'{"a": 2}\n')
    assert path.read_bytes() == b'{"a": 1}\n{"a": 2}\n'


def test_a_sample_has_the_documented_schema_on_one_line() -> None:
    found = state(odd='two\nlines "quoted"')
    line = wire.line(wire.sample(found.sample, found.health, found.alerts, "ape-dev", 100.0))
    assert line.count(b"\n") == 1
    read = json.loads(line)
    assert read["schema"] == "ape.monitor/1"
    assert set(read) == {
        *("schema", "ts", "project", "health", "system", "fleet", "services", "containers"),
        *("gone", "alerts", "monitor"),
    }
    documented = (Path(__file__).resolve().parents[3] / "docs" / "monitor.md").read_text()
    for key in {*read, *read["system"], *read["containers"][0], *read["alerts"][0]}:
        assert f"`{key}`" in documented, key
    assert read["health"]["level"] == "critical"


# The page


@pytest.mark.parametrize("height", [10, 24, 50, 200])
@pytest.mark.parametrize("width", [20, 40, 80, 120, 200])
@pytest.mark.parametrize("agents", [0, 10, 1000])
def test_the_page_fits_any_terminal(agents: int, width: int, height: int) -> None:
    console = Console(width=width, height=height, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(page(state(agents), width, height))
    text = console.export_text()
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert len(lines) <= height
    if width >= 80:
        assert "CRITICAL" in text
        assert "ServiceUnavailable" in text
        assert not agents or f"{agents} of {agents}" in text


def test_a_narrow_page_shows_the_subject_and_duration_of_an_alert() -> None:
    console = Console(width=80, height=40, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(page(state(30, memory=95.0), 80, 40))
    shown = console.export_text()
    assert "ResourceExhaustion (agent) for 0s: 95 %, threshold 90; 30 of them" in shown
    assert "kernel 10 of 1000 open files" in shown
    names = [line.split()[0] for line in shown.split("worst")[1].splitlines()[2:5]]
    assert names == ["odd", "agent-0001", "agent-0002"], "the failed one first, then by name"


def test_control_characters_in_names_are_not_printed() -> None:
    found = state(odd="\x1b[31mred\n[bold]")
    console = Console(width=120, height=50, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    console.print(page(found, 120, 50))
    assert "?[31mred?[bold]" in console.export_text()
    lines = list(plain(found))
    assert len(lines) == 1 + len(found.alerts)
    assert all(line.isprintable() for line in lines)


# Metrics


def families(found: State) -> dict[str, Any]:
    exporter = Exporter("127.0.0.1", 0, lambda: 1.5, 30)
    exporter.state = found
    try:
        text = exporter.metrics().decode()
    finally:
        exporter.stop()
    return {f.name: f for f in text_string_to_metric_families(text)}


def test_metrics_have_the_required_names_and_stable_labels() -> None:
    found = families(state(2))
    memory = found["ape_agent_memory_usage_bytes"].samples
    assert [(s.labels, s.value) for s in memory] == [
        ({"agent": "0001"}, 64 << 20),
        ({"agent": "0002"}, 64 << 20),
    ]
    assert found["ape_agent_cpu_usage_percent"].samples[0].value == 5
    concurrent = [
        s for f in found.values() for s in f.samples if s.name == "ape_concurrent_agents_total"
    ]
    assert [s.value for s in concurrent] == [2]
    assert found["ape_system_memory_percent"].samples[0].value == 60
    assert found["ape_system_cpu_percent"].samples[0].value == 40
    assert found["ape_monitor_data_age_seconds"].samples[0].value == 1.5


def test_no_series_outlives_its_container() -> None:
    exporter = Exporter("127.0.0.1", 0, lambda: 0.0, 30)
    exporter.state = state(3)
    assert b'agent="0003"' in exporter.metrics()
    exporter.state = state(2)
    assert b'agent="0003"' not in exporter.metrics()
    exporter.stop()


def test_exported_metrics_are_those_of_the_catalog_with_type_help_and_labels() -> None:
    known = {metric.name: metric for metric in metrics.ALL}
    found = families(state())
    ours = {name: f for name, f in found.items() if not name.startswith("process_")}
    for family in ours.values():
        for sample in family.samples:
            metric = known[sample.name]
            assert set(sample.labels) == set(metric.labels)
            assert family.type == {"untyped": "unknown"}.get(metric.kind, metric.kind)
            assert family.documentation == metric.help
    monitors = {m.name for m in metrics.ALL if m.name.startswith(("container_", "ape_monitor_"))}
    assert monitors <= {sample.name for f in ours.values() for sample in f.samples}


def test_special_characters_in_names_are_escaped_in_metrics() -> None:
    odd = 'qu"ote\\ and\nline'
    found = families(state(odd=odd))
    up = [s.labels for s in found["ape_container_up"].samples]
    assert (odd, odd) in [(labels["name"], labels["service"]) for labels in up]


def test_a_missing_service_is_down() -> None:
    made = state()
    made.sample.gone = ("target",)
    found = families(made)
    assert {s.labels["name"]: s.value for s in found["ape_container_healthy"].samples} == {
        **{f"agent-{i:04d}": 1 for i in (1, 2, 3)},
        "gateway": 1,
        "odd": 0,
        "target": 0,
    }


def test_the_http_server_answers_by_sample_and_age() -> None:
    age = [0.0]
    exporter = Exporter("127.0.0.1", 0, lambda: age[0], 30)
    exporter.start()
    base = f"http://127.0.0.1:{exporter.port}"
    try:
        assert exporter.answer("/health")[0] == 503
        assert exporter.answer("/alerts")[0] == 503
        exporter.state = state()
        assert json.load(urlopen(f"{base}/health"))["status"] == "ok"
        opened = json.load(urlopen(f"{base}/alerts"))
        assert opened["alerts"][0]["name"] == "ServiceUnavailable"
        assert opened["alerts"][0]["remedy"]
        assert json.load(urlopen(f"{base}/sample"))["fleet"]["running"] == 3
        assert b"ape_concurrent_agents_total 3.0" in urlopen(f"{base}/metrics").read()
        age[0] = 31
        assert exporter.answer("/health")[0] == 503
        assert exporter.answer("/")[0] == 404
    finally:
        exporter.stop()


# Receivers


class Sink:
    """Records what is posted; fails while `down`."""

    def __init__(self) -> None:
        self.bodies: list[Any] = []
        self.down = False

    def __call__(self, url: str, body: Any) -> None:
        if self.down:
            raise OSError("connection refused")
        self.bodies.append(body)


def receiver(sink: Sink, clock: Callable[[], float], resend: float | None = None) -> Receiver:
    body = alertmanager_body if resend else webhook_body
    return Receiver("r", "http://r", body, resend=resend, send=sink, clock=clock, wall=clock)


def test_each_alert_is_sent_once_and_resolved_once() -> None:
    sink, opened = Sink(), state().alerts
    to = receiver(sink, lambda: 0.0)
    to.offer(opened)
    assert to.attempt()
    to.offer(opened)
    assert to.attempt()
    assert len(sink.bodies) == 1
    to.offer([])
    assert to.attempt()
    assert to.attempt()
    assert [[a["status"] for a in b["alerts"]] for b in sink.bodies] == [
        ["firing"] * len(opened),
        ["resolved"] * len(opened),
    ]


def test_a_receiver_gets_open_alerts_after_an_outage() -> None:
    sink, opened = Sink(), state().alerts
    to = receiver(sink, lambda: 0.0)
    sink.down = True
    to.offer(opened)
    assert not to.attempt()
    # An alert that was raised and resolved meanwhile is not sent. The first is still open.
    to.offer([])
    to.offer(opened)
    assert not to.attempt()
    sink.down = False
    assert to.attempt()
    assert len(sink.bodies) == 1
    assert (to.sent, to.failed) == (1, 2)


def test_alertmanager_gets_an_open_alert_again_before_it_expires() -> None:
    sink, now = Sink(), [0.0]
    to = receiver(sink, lambda: now[0], RESEND_SECONDS)
    to.offer(state().alerts)
    to.attempt()
    now[0] += RESEND_SECONDS - 1
    to.attempt()
    assert len(sink.bodies) == 1
    now[0] += 1
    to.attempt()
    assert len(sink.bodies) == 2
    ends = sink.bodies[0][0]["endsAt"]
    assert ends > sink.bodies[1][0]["startsAt"]


def test_a_slow_and_failing_receiver_is_retried_without_blocking(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only the receiver's thread waits."""
    monkeypatch.setattr(senders, "BACKOFF_SECONDS", (0.05, 0.1))
    got: list[Any] = []
    release = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if not got:
                release.wait(5)
            got.append(json.loads(body))
            self.send_response(500 if len(got) == 1 else 200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    to = Receiver("webhook", f"http://127.0.0.1:{server.server_port}/", webhook_body)
    to.start()
    try:
        to.offer(state().alerts)
        to.offer(state().alerts)
        release.set()
        wait_until(lambda: to.sent == 1, 10)
        assert to.failed == 1
        assert got[0]["alerts"] == got[1]["alerts"] or got[1]["schema"] == got[0]["schema"]
    finally:
        to.stop(2)
        server.shutdown()
        server.server_close()
