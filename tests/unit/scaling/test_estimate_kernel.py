"""Estimates from a history; kernel limits."""

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.checks import kernel_limits
from ape_infra.checks.kernel_limits import Load, findings
from ape_infra.planning.tiers import DEFAULT_TIERS
from ape_infra.rollout.estimate import UpdateSpeed, Waves, pace, points, seconds
from ape_infra.rollout.levels import levels

pytestmark = pytest.mark.unit
# Debian 12's values on a machine of 24 GB.
TODAY = {
    "cgroup": 2,
    "fs.inotify.max_user_instances": 128,
    "net.ipv4.neigh.default.gc_thresh3": 1024,
    "net.core.netdev_max_backlog": 1000,
    "net.netfilter.nf_conntrack_max": 262144,
    "kernel.pid_max": 4194304,
    "kernel.threads-max": 192000,
    "fs.file-max": 9223372036854775807,
    "dockerd open files": 1024,
}


def load(agents: int) -> Load:
    return Load(agents, agents + 6, min(agents, 250) + 2)


def test_a_small_fleet_hits_nothing() -> None:
    assert findings(TODAY | {"dockerd open files": 1048576}, Load(5, 11, 7)) == []


def test_a_thousand_agents_hit_what_the_facts_say_with_lines_that_mend() -> None:
    found = {f.name: f for f in findings(TODAY, load(1000))}
    assert set(found) == {
        "fs.inotify.max_user_instances",
        "net.ipv4.neigh.default.gc_thresh3",
        "net.core.netdev_max_backlog",
        "dockerd open files",
    }
    assert found["fs.inotify.max_user_instances"].mend == (
        "sysctl -w fs.inotify.max_user_instances=2048"
    )
    assert "gc_thresh1=" in found["net.ipv4.neigh.default.gc_thresh3"].mend


@given(st.integers(1, 2000))
def test_the_line_mends_what_it_is_for(agents: int) -> None:
    mended = dict(TODAY)
    for finding in findings(TODAY, load(agents)):
        if finding.mend.startswith("sysctl -w "):
            for pair in finding.mend.removeprefix("sysctl -w ").split():
                name, _, value = pair.partition("=")
                mended[name] = int(value)
    left = {f.name for f in findings(mended, load(agents))}
    assert left <= {"dockerd open files"}


def test_inotify_matters_on_cgroup_v2_only() -> None:
    assert "fs.inotify.max_user_instances" not in {
        f.name for f in findings(TODAY | {"cgroup": 1}, load(1000))
    }


def test_values_are_read_from_proc(tmp_path: Path) -> None:
    (tmp_path / "sys/kernel").mkdir(parents=True)
    (tmp_path / "sys/kernel/pid_max").write_text("4194304\n")
    (tmp_path / "17").mkdir()
    (tmp_path / "17/comm").write_text("dockerd\n")
    (tmp_path / "17/limits").write_text("Max open files            1024      4096     files\n")
    assert kernel_limits.read(tmp_path, tmp_path) == {
        "kernel.pid_max": 4194304,
        "cgroup": 1,
        "dockerd open files": 1024,
    }


def entry(start: str, end: str, **changes: int) -> dict[str, object]:
    return {
        "kind": "update",
        "result": "succeeded",
        "startTime": f"2026-01-01T10:00:{start}.000Z",
        "endTime": f"2026-01-01T10:00:{end}.000Z",
        "resourceChanges": changes,
    }


def test_the_pace_is_the_line_through_what_was_seen() -> None:
    history: list[dict[str, Any]] = [
        entry("00", "05", create=10, same=5),
        entry("10", "25", create=50),
        {"kind": "refresh", "result": "succeeded"},
        entry("30", "31", create=900) | {"result": "failed"},
    ]
    assert points(history) == [(10, 5.0), (50, 15.0)]
    found = pace(points(history))
    assert (found.base, found.each) == pytest.approx((2.5, 0.25))
    assert found.seen == 2
    assert found.seconds(100) == pytest.approx(27.5)


@given(st.lists(st.tuples(st.integers(0, 500), st.floats(0, 1000)), max_size=20))
def test_a_pace_is_never_negative(seen: list[tuple[int, float]]) -> None:
    found = pace(seen)
    assert found.base >= 0
    assert found.each >= 0


def test_an_estimate_counts_waves_and_windows() -> None:
    steps = levels(40, 60, DEFAULT_TIERS)
    waves = Waves(10, 3, 15)
    # One level: 20 start and 40 are replaced, in 4 waves.
    assert seconds(steps, UpdateSpeed(2, 0.1, 1), [75.0], waves) == pytest.approx(
        2 + 0.1 * 60 + 4 * 18 + 4 * 2 + 75
    )
    # The same as services: two steps of ten, each an update of one, and Swarm's own waves.
    assert seconds(steps, UpdateSpeed(2, 0.1, 1), [75.0], waves, a_step=10) == pytest.approx(
        2 * 2.1 + 4 * 18 + 75
    )
