"""Readings of cgroups of both versions and both drivers, and rates of two readings."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitoring.cgroup_search import SEARCH_SECONDS, Search
from monitoring.cgroups import (
    Cgroups,
    blkio_v1,
    cpu,
    cpu_max_v2,
    field,
    io_v2,
    memory,
    net_dev,
    proc_cgroup,
    working_set,
)
from monitoring.model import Container, Usage
from monitoring.sampler import SLOW_EVERY, Sampler, rates
from tests.support.cgroup_tree import Tree

pytestmark = pytest.mark.unit
KEY = "a" * 64


def container(key: str = KEY, pid: int = 42, **more: object) -> Container:
    return Container(id=key, name="gateway", service="gateway", pid=pid).but(**more)


def sampler(tree: Tree, files: int = 1000) -> Sampler:
    return Sampler(Cgroups(str(tree.cgroup), str(tree.proc), files))


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.mark.parametrize("systemd", [False, True], ids=["cgroupfs", "systemd"])
@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_a_reading_has_all_counters_of_a_container(tmp_path: Path, v2: bool, systemd: bool) -> None:
    tree = Tree(tmp_path, v2=v2, systemd=systemd)
    tree.put(
        *(KEY, 42),
        cpu=12.5,
        memory=100 << 20,
        inactive=20 << 20,
        limit=128 << 20,
        cores=0.25,
        periods=70,
        throttled=7,
        received=1234,
        sent=567,
        read=8192,
        written=4096,
        oom=2,
        pids=9,
    )
    [found] = sampler(tree).sample([container()], 0.0)
    assert found.usage == Usage(
        cpu_seconds=12.5,
        periods=70,
        throttled=7,
        memory=80 << 20,
        received=1234,
        sent=567,
        read=8192,
        written=4096,
        memory_limit=128 << 20,
        cpu_limit=0.25,
        oom_kills=2,
        pids=9,
    )
    assert found.cpu_percent is None, "one reading has no rate"
    assert found.memory_percent == pytest.approx(62.5)


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_a_container_without_limits_has_no_shares_of_them(tmp_path: Path, v2: bool) -> None:
    tree = Tree(tmp_path, v2=v2)
    tree.put(KEY, 42, limit=None, cores=None)
    taken = sampler(tree)
    taken.sample([container()], 0.0)
    [found] = taken.sample([container()], 5.0)
    assert found.usage
    assert (found.usage.memory_limit, found.usage.cpu_limit) == (None, None)
    assert (found.memory_percent, found.cpu_of_limit) == (None, None)


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_rates_are_those_between_two_samples(tmp_path: Path, v2: bool) -> None:
    tree = Tree(tmp_path, v2=v2)
    tree.put(KEY, 42, cpu=10, periods=100, throttled=10, received=1000, read=0, cores=0.5)
    taken = sampler(tree)
    taken.sample([container()], 100.0)
    tree.put(KEY, 42, cpu=11, periods=150, throttled=30, received=6000, read=50_000, cores=0.5)
    [found] = taken.sample([container()], 105.0)
    assert found.cpu_percent == pytest.approx(20)
    assert found.cpu_of_limit == pytest.approx(40)
    assert found.throttled_percent == pytest.approx(40)
    assert found.received_rate == pytest.approx(1000)
    assert found.read_rate == pytest.approx(10_000)
    # A short, throttled health check is a small share of the time.
    tree.put(KEY, 42, cpu=11.1, periods=158, throttled=36)
    [found] = taken.sample([container()], 110.0)
    assert found.throttled_percent == pytest.approx(12)


def test_limits_and_oom_kills_are_read_within_six_samples(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.put(KEY, 42)
    taken = sampler(tree)
    taken.sample([container()], 0.0)
    tree.put(KEY, 42, limit=256 << 20, oom=1)
    for turn in range(SLOW_EVERY):
        [found] = taken.sample([container()], 5.0 * (turn + 1))
    assert found.usage
    assert (found.usage.memory_limit, found.usage.oom_kills) == (256 << 20, 1)


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_a_container_that_dies_leaves_no_descriptor(tmp_path: Path, v2: bool) -> None:
    tree = Tree(tmp_path, v2=v2)
    tree.put(KEY, 42)
    before, taken = open_files(), sampler(tree)
    taken.sample([container()], 0.0)
    assert open_files() > before
    # On this file system an open file outlives its name; a kernel file would fail to read.
    tree.remove(KEY, 42)
    taken.sample([container().but(state="exited", pid=0)], 5.0)
    assert open_files() == before
    [found] = taken.sample([container()], 10.0)
    assert found.usage is None
    tree.put(KEY, 43, cpu=0.1)
    [found] = taken.sample([container(pid=43)], 15.0)
    assert found.usage
    assert found.usage.cpu_seconds == pytest.approx(0.1)


def test_a_restarted_container_has_no_rate_across_its_restart(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.put(KEY, 42, cpu=100)
    taken = sampler(tree)
    taken.sample([container()], 0.0)
    tree.put(KEY, 43, cpu=1)
    [found] = taken.sample([container(pid=43)], 5.0)
    assert found.cpu_percent is None
    tree.put(KEY, 43, cpu=2)
    [found] = taken.sample([container(pid=43)], 10.0)
    assert found.cpu_percent == pytest.approx(20)


def test_churn_of_containers_leaves_no_descriptor(memory_path: Path) -> None:
    """500 containers are started and removed; each is sampled once."""
    tree, before = Tree(memory_path / "tree"), open_files()
    taken = sampler(tree)
    for turn in range(10):
        born = [container(f"{turn:032x}{i:032x}", 1000 + i) for i in range(50)]
        for one in born:
            tree.put(one.id, one.pid)
        found = taken.sample(born, 5.0 * turn)
        assert all(one.usage for one in found)
        for one in born:
            tree.remove(one.id, one.pid)
    taken.sample([], 100.0)
    assert open_files() == before
    assert taken.cgroups.descriptors.open == 0


def test_containers_beyond_the_descriptor_limit_are_still_read(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    found = [container(f"{i:064x}", 100 + i) for i in range(5)]
    for one in found:
        tree.put(one.id, one.pid)
    before, taken = open_files(), sampler(tree, files=3)
    assert all(one.usage for one in taken.sample(found, 0.0))
    assert open_files() == before + 3
    assert all(one.cpu_percent is not None for one in taken.sample(found, 5.0))


def test_another_cgroup_parent_is_found_through_proc(tmp_path: Path) -> None:
    tree = Tree(tmp_path, v2=True)
    tree.put(KEY, 42)
    # Its name has no id, so that only the kernel knows it.
    (tree.cgroup / "docker" / KEY).rename(tree.cgroup / "elsewhere")
    (tree.proc / "42" / "cgroup").write_text("0::/elsewhere\n")
    [found] = sampler(tree).sample([container()], 0.0)
    assert found.usage
    # In another namespace the path leads upwards and is not followed.
    (tree.proc / "42" / "cgroup").write_text("0::/../../elsewhere\n")
    [found] = sampler(tree).sample([container()], 0.0)
    assert found.usage is None


def test_a_container_in_the_network_of_another_has_no_traffic(tmp_path: Path) -> None:
    tree = Tree(tmp_path)
    tree.put(KEY, 42, received=10**6)
    [found] = sampler(tree).sample([container(own_network=False)], 0.0)
    assert found.usage
    assert found.usage.received == 0


@pytest.mark.parametrize("systemd", [False, True], ids=["cgroupfs", "systemd"])
@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_one_reading_of_a_container_has_its_working_set_cpu_time_and_limits(
    tmp_path: Path, v2: bool, systemd: bool
) -> None:
    tree = Tree(tmp_path, v2=v2, systemd=systemd)
    tree.put(KEY, 42, memory=100, inactive=40, limit=200, cpu=12.5, cores=0.25)
    before = open_files()
    assert memory(KEY, tree.cgroup) == (60, 200)
    assert cpu(KEY, tree.cgroup) == (12.5, 0.25)
    assert open_files() == before


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_one_reading_without_limits_has_no_memory_share(tmp_path: Path, v2: bool) -> None:
    tree = Tree(tmp_path, v2=v2)
    tree.put(KEY, 42, cpu=12.5, limit=None, cores=None)
    assert memory(KEY, tree.cgroup) is None
    assert cpu(KEY, tree.cgroup) == (12.5, None)


@pytest.mark.parametrize("v2", [False, True], ids=["v1", "v2"])
def test_one_reading_of_a_container_that_runs_elsewhere_is_none(tmp_path: Path, v2: bool) -> None:
    tree = Tree(tmp_path, v2=v2)
    tree.put(KEY, 42)
    assert memory("b" * 64, tree.cgroup) is None
    assert cpu("b" * 64, tree.cgroup) is None


def test_the_cgroup_version_is_that_of_this_machine() -> None:
    path = "/sys/fs/cgroup"
    assert Cgroups(path, "/proc", 10).v2 == os.path.exists(f"{path}/cgroup.controllers")


def test_parsers_read_kernel_files() -> None:
    assert field(b"nr_periods 3\nnr_throttled 2\n", b"nr_periods") == 3
    assert field(b"nr_periods 3\nnr_throttled 2", b"nr_throttled") == 2
    assert field(b"total_inactive_file 5\n", b"inactive_file") == 0
    assert blkio_v1(b"Total 0\n") == (0, 0)
    assert blkio_v1(b"8:0 Read 5\n8:0 Write 6\n9:0 Read 1\n8:0 Sync 9\nTotal 12\n") == (6, 6)
    assert io_v2(b"") == (0, 0)
    assert io_v2(b"8:0 rbytes=1 wbytes=2 rios=3\n8:16 rbytes=4 wbytes=8\n") == (5, 10)
    assert cpu_max_v2(b"max 100000\n") is None
    assert cpu_max_v2(b"25000 100000\n") == 0.25
    assert net_dev(b"a\nb\n  lo: 1 0 0 0 0 0 0 0 1 0\neth0:7 0 0 0 0 0 0 0 9 0\n") == (7, 9)
    assert proc_cgroup("3:cpu,cpuacct:/docker/x\n1:name=systemd:/y\n")["cpuacct"] == "docker/x"
    assert proc_cgroup("0::/docker/x\n") == {"": "docker/x"}


@given(st.integers(min_value=0), st.integers(min_value=0))
def test_the_working_set_is_never_negative(usage: int, inactive: int) -> None:
    assert 0 <= working_set(usage, inactive) <= usage


_COUNTERS = st.integers(min_value=0, max_value=2**60)
_USAGES = st.builds(
    Usage,
    st.floats(min_value=0, max_value=1e9),
    *([_COUNTERS] * 7),
    st.none() | st.integers(min_value=1, max_value=2**50),
    st.none() | st.floats(min_value=0.01, max_value=512),
    _COUNTERS,
    _COUNTERS,
)


@given(st.none() | _USAGES, _USAGES, st.floats(min_value=-5, max_value=100))
def test_rates_are_never_negative_for_any_counters(
    before: Usage | None, now: Usage, seconds: float
) -> None:
    found = rates(container(), before, now, seconds)
    for value in (found.cpu_percent, found.received_rate, found.written_rate, found.cpu_of_limit):
        assert value is None or value >= 0


# As the kernel has them; ID stands for the container's.
_PARENTS = {
    "rootless": "user.slice/user-1000.slice/user@1000.service/user.slice/docker-ID.scope",
    "a systemd slice": "load.slice/load-test.slice/docker-ID.scope",
    "a custom parent": "tests/of/mine/ID",
    "podman": "machine.slice/libpod-ID.scope",
    "rootless podman": "user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope",
}


def moved(tree: Tree, key: str, path: str) -> None:
    """The container's group is at another place of the tree."""
    target = tree.cgroup / path.replace("ID", key)
    target.parent.mkdir(parents=True, exist_ok=True)
    (tree.cgroup / "docker" / key).rename(target)
    if "libpod" in path:
        (target / "container").mkdir()


@pytest.mark.parametrize("path", _PARENTS.values(), ids=_PARENTS.keys())
def test_a_group_is_found_by_the_containers_id_wherever_it_is(tmp_path: Path, path: str) -> None:
    tree, other = Tree(tmp_path, v2=True), "b" * 64
    for key, pid in ((KEY, 42), (other, 43)):
        tree.put(key, pid, memory=9 << 20, inactive=0)
        moved(tree, key, path)
    taken = sampler(tree)
    found = taken.sample([container(), container(other, 43)], 0.0)
    assert [one.usage.memory if one.usage else None for one in found] == [9 << 20, 9 << 20]
    assert taken.unseen == 0
    assert memory(KEY, tree.cgroup) == (9 << 20, 128 << 20)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0::/../../user.slice/x\n", "Run the monitor with --cgroupns host"),
        ("0::/user.slice/x\n", "has its id. Mount /sys/fs/cgroup of the Docker host"),
        (None, "its process 42 is not in"),
    ],
)
def test_a_container_that_cannot_be_measured_is_reported_with_the_reason(
    tmp_path: Path, text: str | None, reason: str
) -> None:
    tree = Tree(tmp_path, v2=True)
    if text:
        (tree.proc / "42").mkdir()
        (tree.proc / "42" / "cgroup").write_text(text)
    taken = sampler(tree)
    taken.sample([container()], 0.0)
    assert taken.problem == "", "it may just have ended"
    taken.sample([container()], 5.0)
    assert taken.problem.startswith("1 running containers have no measurements")
    assert reason in taken.problem
    assert "such as gateway" in taken.problem
    taken.sample([container().but(state="exited", pid=0)], 10.0)
    assert (taken.unseen, taken.problem) == (0, "")


def test_a_tree_without_the_container_is_searched_once_a_minute(tmp_path: Path) -> None:
    (tmp_path / "late.slice").mkdir()
    now = [0.0]
    search = Search(str(tmp_path), clock=lambda: now[0])
    assert search.path(KEY) is None
    (tmp_path / "late.slice" / f"docker-{KEY}.scope").mkdir()
    assert search.path(KEY) is None
    now[0] = SEARCH_SECONDS
    assert search.path(KEY) == f"late.slice/docker-{KEY}.scope"
    # The next one is beside it, and needs no search.
    (tmp_path / "late.slice" / f"docker-{'b' * 64}.scope").mkdir()
    assert search.path("b" * 64) == f"late.slice/docker-{'b' * 64}.scope"
