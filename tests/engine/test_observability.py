"""The observability stack where it runs: its own checkers, data in every panel, true faults.

Grafana and Loki are not available on a machine without a registry: the unit tier checks the form of
their configs. VictoriaLogs keeps the logs; Alloy, or the stand-in for it, brings them.

With APE_NOTES=DIR, the table of panels, queries and series (panels.md) and the report with all
charts (report.html) are kept there.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests

from ape_contracts import labels, metrics
from ape_infra.cli.logs.from_store import log_query, of_entry, of_session
from ape_infra.cli.logs.lines import Filter, Line
from ape_infra.config.parsing import parse_config
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import Settings
from ape_infra.observability import (
    cardinality,
    dashboards,
    external_metrics,
    promql,
    recording_rules,
)
from ape_infra.observability.log_queries import LogQuery, Match, logsql
from ape_infra.observability.text import yaml_of
from ape_infra.program.components import observability as parts
from ape_infra.program.workload import Workload
from ape_infra.reporting import panels
from ape_infra.reporting.log_stores import Entry, VictoriaLogs
from ape_infra.reporting.prometheus import Prometheus
from ape_infra.reporting.run_report import RunReport
from ape_infra.runs.pages.stack import page
from tests.support import alert_cases
from tests.support.ape_load import Command
from tests.support.images import observability_images
from tests.support.live import BASES, PROJECT, LiveStack, wait_until
from tests.support.promql import TARGET, metric_of, selected

pytestmark = [
    pytest.mark.engine,
    pytest.mark.xdist_group("observability"),
    pytest.mark.seconds(400),
]
HERE = ["prometheus", "alertmanager", "victorialogs", "alloy"]
STACK = "t-obs"
AGENTS = 10
FAILED = f'result="{metrics.FAILURE}"'
HOOK = "hook"
# Prints what is posted to it, a line each.
HOOK_CODE = """
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        print(self.rfile.read(int(self.headers["Content-Length"])).decode(), flush=True)
        self.send_response(200)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.HTTPServer(("", 8080), Hook).serve_forever()
"""
STREAM_CODE = """
import json, os, urllib.request as u
told = json.loads(os.environ["APE_SETTINGS"])
token = open(told["token_file"]).read().strip()
body = {"model": told["model_name"], "stream": True,
        "messages": [{"role": "user", "content": "Hello"}]}
headers = {"Authorization": "Bearer " + token, "Content-Type": "application/json"}
url = told["proxy_url"] + "/v1/chat/completions"
u.urlopen(u.Request(url, json.dumps(body).encode(), headers)).read()
"""


@pytest.fixture(scope="module", autouse=True)
def images() -> None:
    observability_images()


# The configs of the components, checked by the components' own tools.

EVERY_RECEIVER = {
    "alertWebhookUrl": "http://hook.example/alerts",
    "alertWatchdogUrl": "http://deadman.example/ping",
    "alertSlackChannel": "#load-tests",
    "alertEmailTo": "team@example.org",
    "alertEmailFrom": "ape@example.org",
    "alertSmtpHost": "smtp.example.org:587",
    "alertSmtpUser": "ape",
    "remoteWriteUrl": "https://metrics.example.org/api/v1/write",
}


def settings(stack: str, **more: Any) -> Settings:
    given = BASES[stack] | more
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()}
    return parse_config(texts | dict.fromkeys(SECRETS, "of-a-test"))


RENDERED = {
    "dev": settings("dev"),
    "dev-full": settings("dev", observability="full"),
    "prod": settings("prod"),
    "everything": settings("prod", **EVERY_RECEIVER),
}


def workloads(of: Settings, stack: str) -> dict[str, Workload]:
    secrets = dict.fromkeys(SECRETS, "https://hooks.example.org/of-a-test")
    return {
        part: parts.workload(part, of, secrets, project=PROJECT, stack=stack)
        for part in of.observability.parts
    }


def checked(tmp_path: Path, workload: Workload, *command: str, more: Path | None = None) -> str:
    """Run a tool of the workload's own image over its files; returns what it said."""
    for file in workload.files:
        where = tmp_path / file.name
        where.parent.mkdir(parents=True, exist_ok=True)
        assert isinstance(file.content, str)
        where.write_text(file.content)
        where.chmod(0o444)
    tmp_path.chmod(0o755)
    mounts = ["-v", f"{tmp_path}:/etc/ape:ro"]
    if more:
        mounts += ["-v", f"{more}:/more:ro"]
    done = subprocess.run(
        [
            *("docker", "run", "--rm", "--network=none", *mounts),
            *("--entrypoint", command[0], workload.image, *command[1:]),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", RENDERED)
def test_promtool_finds_nothing(name: str, tmp_path: Path) -> None:
    prometheus = workloads(RENDERED[name], name)["prometheus"]
    out = checked(tmp_path, prometheus, "promtool", "check", "config", "/etc/ape/prometheus.yml")
    assert "rules found" in out
    assert "WARNING" not in out
    checked(tmp_path, prometheus, "promtool", "check", "rules", "/etc/ape/rules.yml")


@pytest.mark.parametrize("name", ["dev-full", "prod", "everything"])
def test_amtool_finds_nothing(name: str, tmp_path: Path) -> None:
    alertmanager = workloads(RENDERED[name], name)["alertmanager"]
    config = "/etc/ape/alertmanager.yml"
    assert "SUCCESS" in checked(tmp_path, alertmanager, "amtool", "check-config", config)

    def route(*labels: str) -> str:
        test = ("amtool", "config", "routes", "test", f"--config.file={config}", *labels)
        return checked(tmp_path, alertmanager, *test).strip()

    assert route("alertname=TargetDown", "severity=critical") == "team"
    watchdog = "watchdog" if name == "everything" else "nobody"
    assert route("alertname=Watchdog", "severity=none") == watchdog


def test_every_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    prometheus = workloads(RENDERED["dev-full"], "dev")["prometheus"]
    more = tmp_path / "more"
    more.mkdir(mode=0o755)
    jobs = ("gateway", "proxy", "monitor", *parts.PORTS)
    tests = alert_cases.promtool_tests("/etc/ape/rules.yml", jobs)
    (more / "tests.yml").write_text(yaml_of(tests))
    (tmp_path / "etc").mkdir()
    out = checked(
        tmp_path / "etc", prometheus, "promtool", "test", "rules", "/more/tests.yml", more=more
    )
    assert "SUCCESS" in out


# The running stack.


class Watched:
    """The running stack, its data, and the alerts that its webhook received."""

    def __init__(self, stack: LiveStack) -> None:
        self.stack = stack
        self.client = stack.client
        self.began = time.time()

    def ask(self, query: str) -> list[dict[str, Any]]:
        """The series of a PromQL query that have a number now."""
        url = f"{self.stack.url('prometheusPort')}/api/v1/query"
        answer = requests.get(url, params={"query": query}, timeout=30)
        assert answer.ok, f"{query}: {answer.text}"
        return [s for s in answer.json()["data"]["result"] if s["value"][1] != "NaN"]

    def logs(self, query: LogQuery) -> list[Entry]:
        """The lines of a query over the last hour."""
        now = time.time()
        return VictoriaLogs(self.stack.url("victorialogsPort")).newest(query, now - 3600, now)

    def told(self) -> dict[str, set[str]]:
        """Alert -> statuses (firing, resolved) in which the webhook had it.

        With "Alert of service", too.
        """
        seen: dict[str, set[str]] = {}
        text = self.client.containers.get(f"{STACK}-{HOOK}").logs().decode()
        for line in filter(None, text.splitlines()):
            for alert in json.loads(line)["alerts"]:
                labels = alert["labels"]
                name = labels["alertname"]
                for key in (name, f"{name} of {labels.get('service')}"):
                    seen.setdefault(key, set()).add(alert["status"])
        return seen

    def faults(self, **routes: int) -> None:
        """Make parts of the shop answer with these statuses; without any, it is healthy."""
        url = f"{self.stack.url('targetPort')}/_faults"
        requests.put(url, json=routes, timeout=5).raise_for_status()

    def failed_session(self) -> dict[str, Any]:
        """The log line of an agent about a session that failed."""
        self.faults(checkout=500)
        failed = lines_of("Failed sessions")
        found: dict[str, Any] = json.loads(
            wait_until(lambda: self.logs(failed), seconds=90)[0].line
        )
        return found

    @contextmanager
    def stopped(self, service: str) -> Iterator[None]:
        """While this lasts, `service` is stopped; afterwards it is healthy again."""
        identity = self.stack.containers(service)[0]["Id"]
        self.client.api.stop(identity)
        try:
            yield
        finally:
            self.client.api.start(identity)

            def healthy() -> bool:
                state = self.client.api.inspect_container(identity)["State"]
                return bool(state["Health"]["Status"] == "healthy")

            wait_until(healthy, seconds=60)

    def stream(self) -> None:
        """One streamed completion, as an agent's container may ask for it."""
        agent = self.stack.containers("agent")[0]["Id"]
        failed, output = self.stack.exec(agent, "python", "-c", STREAM_CODE)
        assert not failed, output

    def run(self, name: str, command: list[str], service: str, **options: Any) -> Any:
        """A container that Docker, and so the monitor, takes for one of the stack."""
        marks = {labels.PROJECT: PROJECT, labels.STACK: STACK, labels.SERVICE: service}
        return self.client.containers.run(
            "python:3.11-slim",
            command,
            name=f"{STACK}-{name}",
            labels=marks,
            detach=True,
            **options,
        )


@pytest.fixture(scope="module")
def watched(
    tmp_path_factory: pytest.TempPathFactory, held_images: dict[str, str]
) -> Iterator[Watched]:
    stack = LiveStack(tmp_path_factory.mktemp("obs"), STACK)
    # So little above what is in use that a hog of this size passes it, and nothing else does.
    memory = psutil.virtual_memory().percent
    quick = {"holdSeconds": 5}
    stack.config(
        agents=AGENTS,
        observability="full",
        observabilityParts=HERE,
        logStore="victorialogs",
        alertWebhookUrl=f"http://{HOOK}:8080/",
        alertOverrides={
            name: {"forSeconds": 5}
            for name in ("TargetDown", "SessionSuccessLow", "GatewayErrorRateHigh")
        },
        alertThresholds={
            "systemMemoryPercent": {"raiseAt": memory + 6, "clearAt": memory + 4, **quick},
            "containerMemoryPercent": {"raiseAt": 80, "clearAt": 75, **quick},
            "systemCpuPercent": {"raiseAt": 95, "clearAt": 90, **quick},
            "serviceDown": quick,
        },
    )
    made = Watched(stack)
    try:
        stack.up()
        hook = made.run(HOOK, ["python", "-c", HOOK_CODE], HOOK, network=f"ape-{STACK}-edge")
        # The name by which Alertmanager knows it.
        network = stack.client.networks.get(f"ape-{STACK}-edge")
        network.disconnect(hook)
        network.connect(hook, aliases=[HOOK])
        yield made
        hook.remove(force=True)
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        stack.sweep()


def shown() -> Iterator[tuple[str, str, str]]:
    """(dashboard, panel, PromQL), the variables at everything."""
    for dashboard in dashboards.ALL:
        for panel in dashboard.panels:
            for query in panel.queries:
                if query.store in (None, "victorialogs"):
                    yield dashboard.title, f"{panel.title} ({panel.kind})", panels.plain(query.expr)


def shown_lines(**values: str) -> Iterator[tuple[str, str, LogQuery]]:
    """(dashboard, panel, query of its lines), the variables at `values` or everything."""

    def plain(match: Match) -> Match:
        return replace(match, value=panels.plain(match.value, values=values))

    for dashboard in dashboards.ALL:
        for panel in dashboard.panels:
            if lines := panel.lines:
                streams = tuple(map(plain, lines.streams))
                fields = tuple(tuple(map(plain, group)) for group in lines.fields)
                query = replace(lines, streams=streams, fields=fields)
                yield dashboard.title, f"{panel.title} ({panel.kind})", query


def lines_of(title: str, **values: str) -> LogQuery:
    """The query of the panel of logs whose title begins so."""
    return next(query for _, panel, query in shown_lines(**values) if panel.startswith(title))


def note(tmp_path: Path, name: str) -> Path:
    """A file for people to look at: in the folder that APE_NOTES names, if it names one."""
    folder = Path(os.environ.get("APE_NOTES") or tmp_path)
    folder.mkdir(parents=True, exist_ok=True)
    return folder / name


def test_every_rule_and_every_panel_has_data(watched: Watched, tmp_path: Path) -> None:
    # Some sessions succeed, and some fail: of the model, then of the shop.
    wait_until(lambda: watched.ask(recording_rules.SESSION_SUCCESS.name), seconds=90)

    warnings = lines_of("Warnings and errors of agents")
    with watched.stopped("proxy"):
        wait_until(lambda: watched.logs(warnings), seconds=60)
    watched.faults(checkout=500)
    # The gateway warns of what it refuses.
    bad = requests.post(f"{watched.stack.url('gatewayPort')}/mcp/request", json={}, timeout=5)
    assert bad.status_code == 422
    wait_until(lambda: watched.ask(f"{promql.rate(metrics.SESSIONS, FAILED)} > 0"), seconds=90)

    def streamed() -> list[dict[str, Any]]:
        # Agents do not stream, so somebody else does.
        watched.stream()
        return watched.ask(recording_rules.FIRST_TOKEN_SECONDS.name)

    wait_until(streamed, seconds=60)
    for _, _, lines in shown_lines():
        wait_until(lambda lines=lines: watched.logs(lines), seconds=30)
    # A rate needs two scrapes.
    wait_until(lambda: watched.ask(promql.rate(external_metrics.VICTORIALOGS_LINES)), seconds=30)
    rows = []
    for rule in recording_rules.RULES:
        labels = ", ".join(f'{k}="{v}"' for k, v in rule.labels)
        name = f"{rule.metric.name}{{{labels}}}"
        rows.append(("recorded", rule.metric.name, name, len(watched.ask(name))))
    for dashboard, panel, query in shown():
        rows.append((dashboard, panel, query, len(watched.ask(query))))
    for dashboard, panel, lines in shown_lines():
        rows.append((dashboard, panel, logsql(lines), len(watched.logs(lines))))
    # A pipe would end the cell of a table.
    cells = ((d, p, q.replace("|", "\\|"), n) for d, p, q, n in rows)
    table = "".join(f"| {d} | {p} | `{q}` | {n} |\n" for d, p, q, n in cells)
    note(tmp_path, "panels.md").write_text(
        f"| dashboard | panel | query | series |\n|---|---|---|---|\n{table}"
    )
    assert [row for row in rows if not row[3]] == []


def test_every_main_panel_is_drawn_in_the_report(watched: Watched, tmp_path: Path) -> None:
    start, end = watched.began, time.time()
    prometheus = Prometheus(watched.stack.url("prometheusPort"))
    found = panels.main_panels(lambda query: prometheus.range(query, start, end))
    assert [p.panel.title for p in found if not any(p.lines.values())] == []
    made = page(RunReport(STACK, start, end, {}, [], []), found)
    note(tmp_path, "report.html").write_text(made)
    assert "No data in this time" not in made


def test_what_rules_and_panels_name_is_what_is_scraped(watched: Watched) -> None:
    exprs = [rule["expr"] for group in recording_rules.groups() for rule in group["rules"]]
    exprs += [query for _, _, query in shown()]
    for expr in exprs:
        for name in selected(expr):
            metric = metric_of(name)
            assert metric is not None, name
            for series in watched.ask(name):
                found = set(series["metric"]) - {"__name__", "le", *TARGET, *metric.labels}
                # An alert also has the labels of the series that it covers.
                assert not found or metric is external_metrics.ALERTS, f"{name}: {found}"


def test_series_are_as_few_as_was_counted(watched: Watched) -> None:
    own = watched.ask('count({__name__=~"ape_.+|container_.+"})')
    assert float(own[0]["value"][1]) <= cardinality.most(AGENTS)


def test_a_failed_session_is_followed_over_all_services_by_one_id(watched: Watched) -> None:
    line = watched.failed_session()
    traced = lines_of("Logs of trace", trace=line["trace_id"])

    # The command finds the same lines by the session's own id.
    def ask(ids: frozenset[str]) -> list[Line]:
        return [of_entry(entry, STACK) for entry in watched.logs(log_query(STACK, ids=ids))]

    def arrived() -> list[Line]:
        """The lines of the session, once all have arrived and both queries find them."""
        lines = of_session(ask, Filter(None, line["session"]))
        found = watched.logs(traced)
        missing = {"agent", "proxy", "gateway"} - {entry.labels["service"] for entry in found}
        same = sorted(said.text for said in lines) == sorted(entry.line for entry in found)
        return lines if same and not missing else []

    lines = wait_until(arrived, seconds=30)
    assert {json.loads(said.text)["trace_id"] for said in lines} == {line["trace_id"]}
    assert {"gateway", "proxy", line["agent"]} == {said.name for said in lines}


def test_commands_read_the_log_store(watched: Watched) -> None:
    line = watched.failed_session()
    command = Command(watched.stack)
    options = ("--stored", "--tail", "1000", "--json")
    out, _ = command.run("logs", *options, "--session", line["session"])
    said = [json.loads(text) for text in out.splitlines()]
    assert {each["container"] for each in said} >= {"gateway", "proxy", line["agent"]}
    assert {each["trace_id"] for each in said} == {line["trace_id"]}
    out, _ = command.run("logs", *options, "--agent", "3", "--grep", '"msg": "session"')
    said = [json.loads(text) for text in out.splitlines()]
    assert {(each["container"], each["msg"]) for each in said} == {("agent-0003", "session")}
    _, problem = command.run("logs", "--stored", "--service", "agents", "-f", code=2)
    assert "--stored has past lines only" in problem

    # The container has no health check; its state is what it answers.
    out, _ = command.run("status", "--json", code=None)
    assert json.loads(out)["endpoints"]["victorialogs"][1] is True


def test_a_service_that_is_down_mutes_its_agents(watched: Watched) -> None:
    url = f"{watched.stack.url('alertmanagerPort')}/api/v2/alerts"
    common = {"project": "other", "stack": "other"}

    def post(*alerts: dict[str, str]) -> None:
        body = [{"labels": {**common, **labels}} for labels in alerts]
        requests.post(url, json=body, timeout=5).raise_for_status()

    def states() -> dict[str, str]:
        answer = requests.get(url, params={"filter": 'project="other"'}, timeout=5).json()
        return {a["labels"]["alertname"]: a["status"]["state"] for a in answer}

    agents = {"alertname": "Agents", "severity": "warning", "scope": "agents"}
    down = {"alertname": "Down", "severity": "critical", "scope": "service"}
    # Of a service that agents can do without.
    post(agents, {**down, "service": "grafana"})
    wait_until(lambda: states() == {"Agents": "active", "Down": "active"}, seconds=15)
    post(agents, {**down, "service": "proxy"})
    wait_until(lambda: states() == {"Agents": "suppressed", "Down": "active"}, seconds=15)


HOG = """
import time
memory = bytearray({mb} * 2**20)
for i in range(0, len(memory), 4096):
    memory[i] = 1
time.sleep(600)
"""


def test_true_faults_reach_the_webhook_and_so_does_their_end(watched: Watched) -> None:
    hog_mb = psutil.virtual_memory().total * 8 // 100 // 2**20

    def python(code: str) -> list[str]:
        return ["python", "-c", code]

    # A service that is down mutes the agents, so theirs are faults for before and afterwards.
    shop = {"SessionSuccessLow", "GatewayErrorRateHigh"}
    watched.faults(checkout=500)
    _until_told(watched, shop, "firing", seconds=150)
    hogs = [
        watched.run("memory", python(HOG.format(mb=hog_mb)), "hog-memory"),
        watched.run("limit", python(HOG.format(mb=50)), "hog-limit", mem_limit="64m"),
        *(
            watched.run(f"cpu-{i}", python("while True: pass"), "hog-cpu")
            for i in range(psutil.cpu_count() or 1)
        ),
    ]
    down = {"ServiceUnavailable of gateway", "TargetDown of gateway"}
    first = {"HighMemoryUsage", "HighCpuUsage", "ResourceExhaustion", *down}
    with watched.stopped("gateway"):
        try:
            _until_told(watched, first, "firing", seconds=150)
        finally:
            for hog in hogs:
                hog.remove(force=True)
    watched.faults()
    _until_told(watched, down, "resolved", seconds=150)
    crash = watched.run(
        "crash",
        python("import time, sys; time.sleep(0.2); sys.exit(1)"),
        "agent",
        restart_policy={"Name": "on-failure", "MaximumRetryCount": 20},
    )
    try:
        _until_told(watched, {"AgentFailures"}, "firing", seconds=150)
    finally:
        crash.remove(force=True)
    _until_told(watched, first | shop | {"AgentFailures"}, "resolved", seconds=240)


def _until_told(watched: Watched, names: set[str], status: str, *, seconds: float) -> None:
    def waiting() -> set[str]:
        told = watched.told()
        return {name for name in names if status not in told.get(name, ())}

    try:
        wait_until(lambda: not waiting(), seconds=seconds)
    except AssertionError:
        raise AssertionError(f"not told as {status}: {sorted(waiting())}") from None
