"""CPU and memory of processes, from /proc."""

from __future__ import annotations

import os
import time
from pathlib import Path
from urllib.request import urlopen

_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(*pids: int) -> float:
    """Return user and system time of the processes, without their children."""
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / _TICK


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def named(*names: str) -> list[int]:
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                if (folder / "comm").read_text().strip() in names:
                    found.append(int(folder.name))
            except OSError:
                continue
    return found


def get(url: str, seconds: float = 30) -> bytes:
    """Send a GET until it is answered by 200. Raises OSError after `seconds`."""
    end = time.monotonic() + seconds
    while True:
        try:
            with urlopen(url, timeout=seconds) as answer:  # noqa: S310
                body: bytes = answer.read()
                return body
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)
