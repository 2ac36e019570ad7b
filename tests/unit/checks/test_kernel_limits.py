"""Kernel limits: which are too low for a fleet, and the commands that raise them."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ape_infra.checks import kernel_limits
from ape_infra.checks.check import Check
from ape_infra.checks.kernel_limits import Load, too_low
from ape_infra.planning.plan import make_plan

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
    return Load.of(make_plan(agents, stack="dev", monitor=True), 1, swarm=False)


def low(values: Mapping[str, int], load: Load) -> dict[str, Check]:
    return {check.name: check for check in too_low(values, load, "warn")}


def test_a_small_fleet_needs_no_higher_limit() -> None:
    assert low(TODAY | {"dockerd open files": 1048576}, Load(5, 11, 7)) == {}


def test_a_thousand_agents_need_higher_limits_and_get_the_commands() -> None:
    found = low(TODAY, load(1000))
    assert set(found) == {
        "fs.inotify.max_user_instances",
        "net.ipv4.neigh.default.gc_thresh3",
        "net.core.netdev_max_backlog",
        "dockerd open files",
    }
    assert found["fs.inotify.max_user_instances"].remedy == (
        "sysctl -w fs.inotify.max_user_instances=2048"
    )
    assert "gc_thresh1=" in found["net.ipv4.neigh.default.gc_thresh3"].remedy


@given(st.integers(1, 2000))
def test_the_command_of_a_remedy_resolves_the_failure(agents: int) -> None:
    raised = dict(TODAY)
    for check in low(TODAY, load(agents)).values():
        if check.remedy.startswith("sysctl -w "):
            for pair in check.remedy.removeprefix("sysctl -w ").split():
                name, _, value = pair.partition("=")
                raised[name] = int(value)
    assert set(low(raised, load(agents))) <= {"dockerd open files"}


def test_inotify_matters_on_cgroup_v2_only() -> None:
    assert "fs.inotify.max_user_instances" not in low(TODAY | {"cgroup": 1}, load(1000))


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
