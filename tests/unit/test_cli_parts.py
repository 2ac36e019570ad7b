"""The pure parts of the commands: no Pulumi, no Docker."""

import json
import multiprocessing
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ape_infra.automation.lock import Lock, LockHeldError
from ape_infra.checks.check import Check
from ape_infra.checks.facts import Machine
from ape_infra.cli.common import PreconditionFailed, intermediate_settings
from ape_infra.cli.down import forget_salt
from ape_infra.cli.logs.from_store import log_query, of_entry, of_session
from ape_infra.cli.logs.lines import Filter, Line, last
from ape_infra.cli.logs.names import ALIASES, chosen, container_pattern, short
from ape_infra.cli.plan import ScaleForecast
from ape_infra.cli.rollout import parsed, pins
from ape_infra.cli.scale import require_checks, stages
from ape_infra.config.parsing import parse
from ape_infra.observability.log_queries import LogQuery, Match
from ape_infra.planning.plan import make_plan
from ape_infra.reporting.log_stores import Entry
from ape_infra.rollout.levels import levels

pytestmark = pytest.mark.unit


def said(name: str, ts: str = "2026-01-01T00:00:00.5Z", **fields: object) -> Line:
    return Line.of(name, f"{ts} {json.dumps(fields)}\n".encode())


def test_a_session_is_followed_over_containers_by_its_trace() -> None:
    about = said("agent-0001", msg="session", session="s1", trace_id="t1")
    there = said("gateway", msg="request", trace_id="t1")
    other = said("gateway", msg="request", trace_id="t2")
    passing = Filter(None, "s1")
    assert not passing.passes(there), "the trace is not known yet"
    assert passing.passes(about)
    assert passing.passes(there)
    assert not passing.passes(other)


def test_a_query_of_the_log_store_selects_service_container_ids_and_pattern() -> None:
    stack = (Match("project", "=", "ape"), Match("stack", "=", "dev"))
    assert log_query("dev") == LogQuery(stack)
    service = Match("service", "=", "proxy")
    assert log_query("dev", service="proxy").streams == (*stack, service)
    assert log_query("dev", grep='a "b"') == LogQuery(stack, grep='a "b"')
    ((one, other),) = log_query("dev", ids=frozenset({"t1", "s1"})).fields
    assert one == Match("session_id", "=~", "s1|t1")
    assert other == Match("trace_id", "=~", "s1|t1")
    container = container_pattern(17, make_plan(20, stack="dev"))
    ((match,),) = log_query("dev", container=container).fields
    assert match.name == "container"
    # A pattern of the whole value.
    assert re.fullmatch(match.value, "ape-dev-agent-0017")
    assert re.fullmatch(match.value, "ape-dev-agents-00.17.abc")
    assert not re.fullmatch(match.value, "ape-dev-agent-0117")


def test_a_session_is_recalled_with_all_of_its_trace() -> None:
    about = said("agent-0001", msg="session", session="s1", trace_id="t1")
    there = said("gateway", "2026-01-01T00:00:00.1Z", msg="request", trace_id="t1")
    asked = []

    def ask(ids: frozenset[str]) -> list[Line]:
        asked.append(ids)
        return [line for line in (about, there) if any(i in line.text for i in ids)]

    assert of_session(ask, Filter(None, "s1")) == [there, about]
    assert asked == [{"s1"}, {"s1", "t1"}]
    assert len(of_session(lambda ids: [about, there], Filter(None, None))) == 2


def test_a_line_of_the_log_store_equals_one_of_docker() -> None:
    entry = Entry(1_500_000_000, '{"msg": "hello"}', {"container": "ape-dev-agent-0001"})
    assert of_entry(entry, "dev") == Line(
        "1970-01-01T00:00:01.500000Z", "agent-0001", '{"msg": "hello"}', {"msg": "hello"}
    )
    assert [line.name for line in last([said("a"), said("b"), said("a"), said("a")], 2)] == [
        *("b", "a", "a")
    ]


def test_a_line_without_json_is_shown_unchanged() -> None:
    line = Line.of("prometheus", b"2026-01-01T00:00:00Z {not json\n")
    assert line.fields is None
    assert line.pretty == "{not json"
    assert Filter("not", None).passes(line)
    assert said("x", level="info", msg="hello", n=1).pretty == "INFO    hello n=1"


def test_lines_are_ordered_by_when_they_were_written_not_by_when_they_arrived() -> None:
    late = "2026-01-01T00:00:00.662000000Z"
    early = Line.of("gateway", f'{late} {{"ts": "2026-01-01T00:00:00.660Z"}}\n'.encode())
    assert early.ts < said("proxy", ts="2026-01-01T00:00:00.661000000Z").ts
    odd = Line.of("other", f'{late} {{"ts": 17}}\n'.encode())
    assert odd.ts == late, "whose own time is none"


def container(name: str, service: str, state: str = "running") -> dict[str, Any]:
    return {
        "Id": name,
        "Names": [f"/ape-dev-{name}"],
        "State": state,
        "Labels": {"ape.service": service},
    }


def test_containers_are_chosen_by_service_alias_and_number() -> None:
    found = [
        container("agent-0001", "agent"),
        container("agent-0017", "agent"),
        container("gateway", "gateway"),
        container("gateway-files-abc", "gateway-files", "created"),
    ]
    assert ALIASES["llama_agent"] == "agent"
    assert set(chosen(found, "dev", make_plan(300, stack="dev"), "llama_agent", None).values()) == {
        "agent-0001",
        "agent-0017",
    }
    assert set(chosen(found, "dev", make_plan(300, stack="dev"), None, 17).values()) == {
        "agent-0017"
    }
    assert set(chosen(found, "dev", make_plan(300, stack="dev"), None, None).values()) == {
        "agent-0001",
        "agent-0017",
        "gateway",
    }
    with pytest.raises(PreconditionFailed, match="There are: agent, gateway"):
        chosen(found, "dev", make_plan(300, stack="dev"), "nobody", None)
    with pytest.raises(PreconditionFailed, match=r"Did you mean gateway\? There are"):
        chosen(found, "dev", make_plan(300, stack="dev"), "gatway", None)
    assert short("/ape-dev-agents-01.17.abcdefghijklmnopqrstuvwxy", "dev") == "agents-01.17"


@pytest.mark.parametrize(
    ("agents", "each", "agent", "name"),
    [
        (300, 1, 17, "/ape-dev-agent-0017"),
        (300, 1, 267, "/ape-dev-agents-01.17.abcdefghijklmnopqrstuvwxy"),
        (45, 20, 21, "/ape-dev-agent-0021"),
        (45, 20, 40, "/ape-dev-agent-0021"),
        (45, 20, 40, "/ape-dev-agents-00.2.abcdefghijklmnopqrstuvwxy"),
        (45, 20, 41, "/ape-dev-agents-00-rest.1.abcdefghijklmnopqrstuvwxy"),
    ],
)
def test_the_container_of_an_agent_is_found(agents: int, each: int, agent: int, name: str) -> None:
    plan = make_plan(agents, stack="dev", agents_per_container=each)
    assert container_pattern(agent, plan).search(name)
    assert not container_pattern(agent + each, plan).search(name)
    assert not container_pattern(agent - each if agent > each else agent + each, plan).search(name)


@pytest.mark.parametrize(
    ("secret", "left"), [("", ""), ("  ape:key:\n    secure: v1:x\n", "encryptionsalt: v1:y=\n")]
)
def test_a_salt_without_a_secret_goes_with_the_stack(
    secret: str, left: str, tmp_path: Path
) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    config = f"# Words.\nconfig:\n  ape:agents: 5\n{secret}"
    file.write_text(config + "encryptionsalt: v1:y=\n")
    forget_salt(file)
    assert file.read_text() == config + left


def test_settings_of_a_rollout() -> None:
    assert parsed(["ape:thinkTimeSeconds=2", "tiers[0].memoryMb=9"]) == {
        "thinkTimeSeconds": "2",
        "tiers[0].memoryMb": "9",
    }
    for wrong in ("x", "=1", "agents=5", "cerebrasApiKey=k"):
        with pytest.raises(PreconditionFailed):
            parsed([wrong])
    urn = "urn:pulumi:dev::ape::ape:images:Images$docker:index/image:Image::image-demo-target"
    state = {"deployment": {"resources": [{"urn": urn, "inputs": {"imageName": "a:1"}}]}}
    assert pins(state) == {"images.demo_target": "a:1"}


def hold(folder: Path, change: bool, ready: Any) -> None:
    with Lock(folder, "dev") as lock:
        if change:
            lock.begin()
        ready.set()
        time.sleep(60)


@pytest.mark.parametrize("change", [True, False])
def test_a_killed_holder_releases_the_lock_and_its_note_stays(tmp_path: Path, change: bool) -> None:
    context = multiprocessing.get_context("fork")
    ready = context.Event()
    process = context.Process(target=hold, args=(tmp_path, change, ready))
    process.start()
    assert ready.wait(10)
    with pytest.raises(LockHeldError, match=f"process {process.pid}"), Lock(tmp_path, "dev"):
        pass
    assert process.pid
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    with Lock(tmp_path, "dev") as lock:
        assert (lock.interrupted is not None) == change
        lock.end()
    with Lock(tmp_path, "dev") as lock:
        assert lock.interrupted is None


def test_an_interruption_is_noted_until_the_stack_is_recovered(tmp_path: Path) -> None:
    (tmp_path / "dev.json").write_text('{"chang')
    with Lock(tmp_path, "dev") as lock:
        assert lock.interrupted is not None, "a torn note is one of a killed command"
    with Lock(tmp_path, "dev") as lock:
        assert lock.interrupted is not None


def test_force_logs_the_failed_checks_and_continues(
    capsys: pytest.CaptureFixture[str],
) -> None:
    checks = (
        Check("memory", "fail", "too little.", "Set fewer agents."),
        Check("disk", "ok", "large enough."),
    )
    machine = Machine(memory_mb=1000, cpus=2)
    found = ScaleForecast(0, make_plan(5, stack="dev"), machine, checks, (), 0.0, 0)
    with pytest.raises(
        PreconditionFailed, match=r"memory: too little. Set fewer agents.\nAdd --force"
    ):
        require_checks(found, False)
    require_checks(found, True)
    assert capsys.readouterr().err == "forced: memory: too little. Set fewer agents.\n"


def test_a_swarm_gets_no_more_new_replicas_at_a_time_than_may_start() -> None:
    swarm = parse({"runtime": "swarm", "updateParallelism": "5"})
    assert intermediate_settings(swarm, 0, 12) == [
        {"agents": "5", "sizedFor": "12"},
        {"agents": "10", "sizedFor": "12"},
    ]
    assert intermediate_settings(swarm, 12, 3) == [], "down it goes at once"
    dense = parse({"runtime": "swarm", "updateParallelism": "5", "agentsPerContainer": "2"})
    assert [step["agents"] for step in intermediate_settings(dense, 0, 12)] == ["10"]
    assert intermediate_settings(parse({}), 0, 60) == []
    larger = parse({"runtime": "swarm", "sizedFor": "300"})
    assert intermediate_settings(larger, 0, 20) == [{"agents": "10", "sizedFor": "300"}]


def test_a_level_of_a_swarm_comes_in_steps_and_ends_as_configured() -> None:
    settings = parse({"runtime": "swarm"})
    (stage,) = stages(settings, levels(40, 60, settings.fleet.tier_of), "t", "dev", force=False)
    assert stage.steps == ({"agents": "50", "sizedFor": "60"}, {"agents": "60"})
