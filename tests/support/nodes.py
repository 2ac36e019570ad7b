"""Nodes on this machine, as a Swarm or each for itself: a dockerd each, in a network namespace of

its own. As root. Nothing of the machine's own daemon is touched; its images are copied.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from pathlib import Path

import docker
from docker.errors import DockerException

from tests.support.slots import LOCKS, Slot

# In a namespace too: the rules of the machine's own Docker drop what a bridge forwards.
BRIDGE = "apetest0"
# Each group of nodes is behind a bridge of its own, so that all have the same addresses.
NETWORK = "10.99.77"
START_SECONDS = 60
# A folder for each group of nodes.
FOLDERS = LOCKS / "nodes"


def sh(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise AssertionError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


class Node:
    def __init__(self, group: str, number: int, folder: Path, disk_mb: int | None) -> None:
        self._disk_mb = disk_mb
        self.switch = f"{group}sw"
        self.name = f"{group}n{number}"
        self.address = f"{NETWORK}.{number + 1}"
        self.folder = folder / self.name
        self.socket = self.folder / "docker.sock"
        # Where a container that binds the stack's socket finds it: that of its own node, as on
        # machines that are real ones.
        self.known_as = folder / f"{group}n1"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def host(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        for part in ("data", "exec", "run"):
            (self.folder / part).mkdir(parents=True)
        if self._disk_mb:
            size = f"size={self._disk_mb}m"
            sh("mount", "-t", "tmpfs", "-o", size, "tmpfs", f"{self.folder}/data")
        sh("ip", "netns", "add", self.name)
        outer, inner = f"{self.name}o", f"{self.name}i"
        sh("ip", "link", "add", outer, "type", "veth", "peer", "name", inner)
        sh("ip", "link", "set", inner, "netns", self.name)
        sh("ip", "link", "set", outer, "netns", self.switch)
        sh("ip", "-n", self.switch, "link", "set", outer, "master", BRIDGE, "up")
        inside = ("ip", "-n", self.name)
        sh(*inside, "addr", "add", f"{self.address}/24", "dev", inner)
        sh(*inside, "link", "set", inner, "up")
        sh(*inside, "link", "set", "lo", "up")
        sh(*inside, "route", "add", "default", "via", f"{NETWORK}.1")
        self.serve()

    def serve(self) -> None:
        """Start the dockerd, and wait until it answers."""
        # Not under `ip netns exec`: it hides the cgroup mounts.
        run = (
            f"mount --bind {self.folder}/run /run && mount --bind {self.folder} {self.known_as} && "
            f"exec dockerd --data-root {self.folder}/data --exec-root {self.folder}/exec "
            f"-p {self.folder}/docker.pid -H {self.host}"
        )
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                ["nsenter", f"--net=/run/netns/{self.name}", "unshare", "-m", "sh", "-c", run],
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        end = time.monotonic() + START_SECONDS
        while True:
            with contextlib.suppress(DockerException):
                self.client().ping()
                return
            assert time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.5)

    def client(self) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.host, timeout=30)

    def crash(self) -> None:
        """The dockerd alone is killed; its containers run on. `serve` starts the next one."""
        assert self.process
        self.process.kill()
        self.process.wait()
        # Its containerd dies with it, but not at once, and a new dockerd would wait for its number.
        number = self.folder / "exec/containerd/containerd.pid"
        end = time.monotonic() + START_SECONDS
        while _runs(int(number.read_text())):
            assert time.monotonic() < end, "containerd lives on"
            time.sleep(0.2)
        number.unlink()

    def kill(self) -> None:
        """As a power cut."""
        if self.process is None:
            return
        sh("ip", "-n", self.switch, "link", "set", f"{self.name}o", "down", check=False)
        kill_all_in(self.name)
        self.process.wait()
        self.process = None

    def remove(self) -> None:
        self.kill()
        sh("ip", "netns", "del", self.name, check=False)
        sh("ip", "-n", self.switch, "link", "del", f"{self.name}o", check=False)
        unmount(str(self.folder))
        shutil.rmtree(self.folder, ignore_errors=True)


def kill_all_in(namespace: str) -> None:
    """Kill the containers, whose parents are the shims, and then all that serves them."""
    for _ in range(2):
        serving = sh("ip", "netns", "pids", namespace, check=False).split()
        inside = sh("pgrep", "-P", ",".join(serving), check=False).split() if serving else []
        for pid in inside + serving:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def unmount(part: str) -> None:
    """All mounts whose path contains `part`, the innermost first."""
    mounts = Path("/proc/mounts").read_text().splitlines()
    for point in sorted((m.split()[1] for m in mounts), reverse=True):
        if part in point:
            sh("umount", "-l", point, check=False)


def sweep_nodes(group: str = r"ape\d+") -> None:
    """Remove what a killed run left of a group, or of all."""
    for line in sh("ip", "netns", "list", check=False).splitlines():
        name = line.split()[0]
        if re.fullmatch(rf"{group}(sw|n\d+)", name):
            kill_all_in(name)
            sh("ip", "netns", "del", name, check=False)
    for folder in FOLDERS.glob("*"):
        if re.fullmatch(group, folder.name):
            unmount(f"{folder}/")
            shutil.rmtree(folder, ignore_errors=True)


def _runs(pid: int) -> bool:
    """Whether there is such a process, and not only its exit code that nobody has asked for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Nodes:
    """A Swarm that the first node manages, or (`swarm` False) nodes each for itself.

    With `disk_mb`, each has a disk of that size.

    Their folder has a short path: a socket's may have 107 characters. Overlay file systems do not
    nest: where /tmp is one, this wants another TMPDIR.
    """

    def __init__(self, count: int, *, swarm: bool = True, disk_mb: int | None = None) -> None:
        self._swarm = swarm
        self._slot = Slot("nodes")
        self._group = f"ape{self._slot.number}"
        self._switch = f"{self._group}sw"
        self._folder = FOLDERS / self._group
        self.nodes = [Node(self._group, i + 1, self._folder, disk_mb) for i in range(count)]

    def __enter__(self) -> Nodes:
        sweep_nodes(self._group)
        self._folder.mkdir(parents=True)
        sh("ip", "netns", "add", self._switch)
        inside = ("ip", "-n", self._switch)
        try:
            sh(*inside, "link", "add", BRIDGE, "type", "bridge")
            sh(*inside, "addr", "add", f"{NETWORK}.1/24", "dev", BRIDGE)
            sh(*inside, "link", "set", BRIDGE, "up")
            for node in self.nodes:
                node.start()
            if not self._swarm:
                return self
            first = self.nodes[0]
            first.client().swarm.init(advertise_addr=first.address)
            token = first.client().swarm.attrs["JoinTokens"]["Worker"]
            for node in self.nodes[1:]:
                node.client().swarm.join(
                    remote_addrs=[f"{first.address}:2377"],
                    join_token=token,
                    advertise_addr=node.address,
                )
        except BaseException:
            self.__exit__()
            raise
        return self

    def load(self, images: Iterable[str]) -> None:
        """Copy images of the machine's own daemon to all nodes at once."""
        archive = self._folder / "images.tar"
        sh("docker", "save", "-o", str(archive), *images)
        loads = [
            subprocess.Popen(
                ["docker", "-H", node.host, "load", "-q", "-i", str(archive)],
                stdout=subprocess.DEVNULL,
            )
            for node in self.nodes
        ]
        assert [load.wait() for load in loads] == [0] * len(loads)
        archive.unlink()

    def __exit__(self, *_: object) -> None:
        for node in reversed(self.nodes):
            node.remove()
        sh("ip", "netns", "del", self._switch, check=False)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._slot.release()
