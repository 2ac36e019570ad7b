"""Kernel limits, from a synthetic /proc and from the real one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from monitoring import kernel
from monitoring.kernel import Inotify, KernelLimits
from monitoring.model import Container, KernelLimit

pytestmark = pytest.mark.unit
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="reads the descriptors of other users")
INOTIFY, FILE = "anon_inode:inotify", "/dev/null"


def process(proc: Path, pid: int, *links: str, user: int | None = None) -> None:
    folder = proc / str(pid) / "fd"
    folder.mkdir(parents=True)
    for number, link in enumerate(links):
        (folder / str(number)).symlink_to(link)
    if user is not None:
        os.chown(folder.parent, user, user)


def by_name(limits: list[KernelLimit]) -> Mapping[str, tuple[int, int]]:
    return {limit.name: (limit.used, limit.allowed) for limit in limits}


@ROOT
def test_inotify_instances_are_those_of_the_user_with_the_most(tmp_path: Path) -> None:
    process(tmp_path, 1, INOTIFY, FILE, user=0)
    process(tmp_path, 2, FILE, INOTIFY, INOTIFY, user=7)
    process(tmp_path, 3, INOTIFY, user=7)
    (tmp_path / "self").mkdir()
    assert Inotify(str(tmp_path)).used() == 3


def test_each_sample_after_the_first_checks_few_descriptors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []
    read = os.readlink

    def counted(path: str) -> str:
        checked.append(path)
        return read(path)

    monkeypatch.setattr(kernel, "DESCRIPTORS_PER_SAMPLE", 4)
    monkeypatch.setattr(os, "readlink", counted)
    process(tmp_path, 1, *[INOTIFY] * 10)
    instances = Inotify(str(tmp_path))
    assert instances.used() == 10
    # A new instance counts after the next complete round.
    process(tmp_path, 2, INOTIFY)
    seen = []
    for _ in range(3):
        checked.clear()
        seen.append(instances.used())
        assert len(checked) <= 4
    assert seen == [10, 10, 11]


def test_a_process_that_ends_meanwhile_is_skipped(tmp_path: Path) -> None:
    process(tmp_path, 1, INOTIFY)
    (tmp_path / "2").mkdir()
    assert Inotify(str(tmp_path)).used() == 1


@ROOT
def test_inotify_instances_of_a_real_process_are_counted() -> None:
    before = Inotify("/proc").used()
    code = "import ctypes; c = ctypes.CDLL(None)\nfor _ in range(40): assert c.inotify_init() > 0\n"
    child = subprocess.Popen(
        [sys.executable, "-c", code + "print(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    child.stdout.readline()
    limits = by_name(KernelLimits("/proc").sample([]))
    child.communicate(b"\n")
    used, allowed = limits["inotify instances of one user"]
    assert used >= 40
    assert used <= before + 45, "few others started meanwhile"
    assert allowed == int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())


def test_limits_of_this_machine_are_read() -> None:
    limits = by_name(KernelLimits("/proc").sample([]))
    assert {"open files", "process ids", "threads"} <= set(limits)
    assert limits["process ids"][1] == int(Path("/proc/sys/kernel/pid_max").read_text())
    assert all(0 <= used < allowed for used, allowed in limits.values())


def write(proc: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        path = proc / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


ARP = "entries  allocs   hits\n0000001b 00000d59 00000001\n0000001b 00000d89 00000002\n"


def test_neighbors_of_all_network_namespaces_count(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "net/stat/arp_cache": ARP,
            # Those of the reader's namespace.
            "net/arp": "IP address HW type\n10.0.0.1 0x1\n",
            "sys/net/ipv4/neigh/default/gc_thresh3": "1024\n",
        },
    )
    limits = KernelLimits(str(tmp_path))
    assert limits._neighbors() == ("neighbours (ARP)", 27, 1024)


@pytest.mark.parametrize(("limit", "is_shown"), [(32768, True), (1 << 22, False)])
def test_the_process_limit_of_a_containers_own_namespace_is_left_out(
    tmp_path: Path, limit: int, is_shown: bool
) -> None:
    write(
        tmp_path,
        {
            "loadavg": "0.1 0.2 0.3 2/250 4711\n",
            "sys/kernel/pid_max": f"{limit}\n",
            "sys/kernel/threads-max": "5000\n",
            "sys/fs/file-nr": "100 0 2000\n",
            "key-users": "    0:    16 15/15 10/1000 530/25000\n 1000:   3 3/3 90/200 80/20000\n",
            "net/stat/arp_cache": ARP,
            "sys/net/netfilter/nf_conntrack_max": "1000\n",
        },
    )
    expected = {"open files": (100, 2000), "threads": (250, 5000), "keys of one user": (90, 200)}
    if is_shown:
        expected["process ids"] = (250, limit)
    assert by_name(KernelLimits(str(tmp_path)).sample([])) == expected


def test_bridge_ports_are_those_of_the_fullest_network(tmp_path: Path) -> None:
    found = [
        Container(str(i), str(i), "agent", networks=("a", "b") if i < 3 else ("b",))
        for i in range(5)
    ]
    found.append(found[0].but(id="x", state="exited", networks=("a", "a2")))
    limits = by_name(KernelLimits(str(tmp_path)).sample(found))
    assert limits == {"ports of network b": (5, 1023)}
