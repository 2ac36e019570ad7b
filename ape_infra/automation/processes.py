"""The processes of Pulumi that work in a project's folder."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import psutil

PLUGINS = ("pulumi-language-", "pulumi-resource-", "ape_docker_p")


def _engines(root: Path) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Pulumi processes in `root`, with their command lines."""
    for process in psutil.process_iter(["name", "cmdline", "cwd"]):
        if process.info["name"] == "pulumi" and process.info["cwd"] == str(root):
            yield process, process.info["cmdline"] or []


def own_updates(root: Path, stack: str) -> list[psutil.Process]:
    """Updates of the stack that an `ape-load` started, this one or one that has ended."""
    return [
        process
        for process, line in _engines(root)
        if "auto.local" in line and ("--stack", stack) in pairwise(line)
    ]


def manual_updates(root: Path) -> list[psutil.Process]:
    """Updates in this project that a user started with plain `pulumi`."""
    return [
        process
        for process, line in _engines(root)
        if "auto.local" not in line and {"up", "update", "destroy", "refresh"} & set(line[1:3])
    ]


def orphaned_plugins(root: Path) -> list[psutil.Process]:
    """Language hosts and plugins in this project whose engine was killed."""
    found = []
    for process in psutil.process_iter(["name", "cmdline", "cwd", "ppid"]):
        words = " ".join(process.info["cmdline"] or [])
        if process.info["cwd"] != str(root) or process.pid == os.getpid():
            continue
        if process.info["ppid"] == 1 and any(name in words for name in PLUGINS):
            found.append(process)
    return found


def interrupt(processes: Sequence[psutil.Process], number: int = signal.SIGINT) -> None:
    """Send the signal to those that still run."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
