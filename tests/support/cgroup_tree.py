"""A synthetic tree of cgroups and /proc, for the monitor: any number of containers, v1 or v2."""

from __future__ import annotations

import shutil
from pathlib import Path

_V1_STAT = """cache 8192
rss 4096000
rss_huge 0
shmem 0
mapped_file 0
dirty 0
writeback 0
workingset_refault_anon 0
workingset_refault_file 0
swap 0
pgpgin 2021
pgpgout 1018
pgfault 3180
pgmajfault 0
inactive_anon 4059136
active_anon 12288
inactive_file {inactive}
active_file 0
unevictable 0
hierarchical_memory_limit {limit}
hierarchical_memsw_limit {limit}
total_cache 8192
total_rss 4096000
total_rss_huge 0
total_shmem 0
total_mapped_file 0
total_dirty 0
total_writeback 0
total_swap 0
total_pgpgin 2021
total_pgpgout 1018
total_pgfault 3180
total_pgmajfault 0
total_inactive_anon 4059136
total_active_anon 12288
total_inactive_file {inactive}
total_active_file 0
total_unevictable 0
"""
_V2_STAT = """anon 4096000
file 8192
kernel 1081344
kernel_stack 32768
pagetables 106496
sec_pagetables 0
percpu 2064
sock 0
vmalloc 0
shmem 0
file_mapped 0
file_dirty 0
file_writeback 0
swapcached 0
anon_thp 0
file_thp 0
shmem_thp 0
inactive_anon 4059136
active_anon 12288
inactive_file {inactive}
active_file 0
unevictable 0
slab_reclaimable 312064
slab_unreclaimable 494912
slab 806976
workingset_refault_anon 0
workingset_refault_file 0
pgfault 3180
pgmajfault 0
"""
_NET = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop
    lo:    9999      10    0    0    0     0          0         0     9999      10    0    0
  eth0: {received}      10    0    0    0     0          0         0   {sent}      10    0    0
"""


class Tree:
    """Write with `put`, delete with `remove`. CPU in seconds, memory in bytes."""

    def __init__(self, root: Path, *, v2: bool = False, systemd: bool = False) -> None:
        self.cgroup, self.proc = root / "cgroup", root / "proc"
        self.v2, self.systemd = v2, systemd
        self.cgroup.mkdir(parents=True)
        self.proc.mkdir()
        if v2:
            (self.cgroup / "cgroup.controllers").write_text("cpu io memory pids\n")

    def _place(self, key: str) -> str:
        return f"system.slice/docker-{key}.scope" if self.systemd else f"docker/{key}"

    def put(
        self,
        key: str,
        pid: int,
        *,
        cpu: float = 1.0,
        memory: int = 64 << 20,
        inactive: int = 4 << 20,
        limit: int | None = 128 << 20,
        cores: float | None = 0.1,
        periods: int = 100,
        throttled: int = 10,
        received: int = 1000,
        sent: int = 500,
        read: int = 4096,
        written: int = 8192,
        oom: int = 0,
        pids: int = 3,
    ) -> None:
        quota = -1 if cores is None else int(cores * 100_000)
        if self.v2:
            texts = {
                "cpu.stat": f"usage_usec {int(cpu * 1e6)}\nuser_usec 0\nsystem_usec 0\n"
                f"nr_periods {periods}\nnr_throttled {throttled}\nthrottled_usec 0\n",
                "memory.current": f"{memory}\n",
                "memory.stat": _V2_STAT.format(inactive=inactive),
                "io.stat": f"8:0 rbytes={read} wbytes={written} rios=1 wios=2 dbytes=0 dios=0\n",
                "memory.max": f"{limit or 'max'}\n",
                "cpu.max": f"{'max' if quota < 0 else quota} 100000\n",
                "memory.events": f"low 0\nhigh 0\nmax 0\noom 0\noom_kill {oom}\n",
                "pids.current": f"{pids}\n",
            }
            self._write({f"{self._place(key)}/{name}": text for name, text in texts.items()})
        else:
            place = self._place(key)
            v1_limit = limit or 9223372036854771712
            self._write(
                {
                    f"cpuacct/{place}/cpuacct.usage": f"{int(cpu * 1e9)}\n",
                    f"cpu/{place}/cpu.stat": f"nr_periods {periods}\nnr_throttled {throttled}\n"
                    "throttled_time 0\n",
                    f"cpu/{place}/cpu.cfs_quota_us": f"{quota}\n",
                    f"cpu/{place}/cpu.cfs_period_us": "100000\n",
                    f"memory/{place}/memory.usage_in_bytes": f"{memory}\n",
                    f"memory/{place}/memory.stat": _V1_STAT.format(
                        inactive=inactive, limit=v1_limit
                    ),
                    f"memory/{place}/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\n"
                    f"oom_kill {oom}\n",
                    f"blkio/{place}/blkio.throttle.io_service_bytes_recursive": (
                        f"8:0 Read {read}\n8:0 Write {written}\n8:0 Total {read + written}\n"
                        f"Total {read + written}\n"
                    ),
                    f"pids/{place}/pids.current": f"{pids}\n",
                }
            )
        net = self.proc / str(pid) / "net"
        net.mkdir(parents=True, exist_ok=True)
        (net / "dev").write_text(_NET.format(received=received, sent=sent))

    def _write(self, texts: dict[str, str]) -> None:
        for name, text in texts.items():
            path = self.cgroup / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)

    def remove(self, key: str, pid: int) -> None:
        tops = [self.cgroup] if self.v2 else list(self.cgroup.iterdir())
        for top in tops:
            shutil.rmtree(top / self._place(key), ignore_errors=True)
        shutil.rmtree(self.proc / str(pid), ignore_errors=True)
