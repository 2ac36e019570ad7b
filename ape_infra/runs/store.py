"""The folder of results: a folder for each run, which survives the stack and the command.

A file is replaced as a whole, so that a reader, or a command that is killed, finds the old content
or the new one. The process of a run holds a lock on its folder: a run that is partial and not
locked was killed.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ape_infra.runs import files
from ape_infra.runs.collector import Interval
from ape_infra.runs.junit import junit
from ape_infra.runs.summary import VERSION, Summary

RUN_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
SUMMARY, MEASUREMENTS, REPORT = "summary.json", "measurements.json", "report.html"
SESSIONS, TRANSCRIPTS = "sessions.csv", "transcripts"
MAX_TRANSCRIPTS = 500
MAX_BYTES = 512 * 2**20


class StoreError(Exception):
    """A run or a folder cannot be used; the text states the path, the reason and the remedy."""


def run_name(stack: str, now: float) -> str:
    """Return a name for a run that starts now: names sort by time."""
    at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    return f"{at}-{re.sub('[^A-Za-z0-9._-]', '-', stack)}"[:61]


def write(path: Path, content: str) -> None:
    """Replace the file at once."""
    beside = path.with_name(f".{path.name}.new")
    # Words of a model may have halves of characters.
    beside.write_text(content, "utf-8", errors="backslashreplace")
    os.replace(beside, path)


class RunFolder:
    """The folder of a run that this process measures."""

    def __init__(self, path: Path) -> None:
        self.path, self.name = path, path.name
        self._transcripts: set[str] = set()
        # Until the process ends, however it does.
        self._lock = os.open(path, os.O_RDONLY)
        fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        write(path / SESSIONS, files.sessions([]))

    @classmethod
    def create(cls, results: Path, stack: str, now: float) -> RunFolder:
        """Raises StoreError."""
        name = run_name(stack, now)
        try:
            results.mkdir(parents=True, exist_ok=True)
            for number in range(1, 100):
                path = results / (name if number == 1 else f"{name}-{number}")
                try:
                    path.mkdir()
                except FileExistsError:
                    continue
                return cls(path)
        except OSError as error:
            raise StoreError(
                f"{results}: cannot be written ({error.strerror}). Results need a folder that "
                "you can write to. Correct its permissions, or name another with --results."
            ) from None
        raise StoreError(f"{results}: has too many runs of this second. Try again.")

    def close(self) -> None:
        os.close(self._lock)

    def discard(self) -> None:
        """Remove the folder of a run that has not begun."""
        self.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def write(
        self, summary: Summary, measurements: Mapping[str, Any], intervals: Iterable[Interval]
    ) -> None:
        """Replace all files but the sessions, the transcripts and the report."""
        write(self.path / MEASUREMENTS, json.dumps(measurements, separators=(",", ":")))
        write(self.path / "endpoints.csv", files.endpoints(summary.endpoints))
        write(self.path / "timeline.csv", files.timeline(intervals))
        write(self.path / "junit.xml", junit(summary))
        write(self.path / SUMMARY, summary.model_dump_json(indent=2) + "\n")

    def add_sessions(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append to sessions.csv."""
        with (self.path / SESSIONS).open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write(files.sessions(rows, head=False))

    def add_transcripts(self, listed: Iterable[Mapping[str, Any]]) -> None:
        """Write those that are new."""
        folder = self.path / TRANSCRIPTS
        for item in listed:
            folder.mkdir(exist_ok=True)
            session, slot = item.get("session"), item.get("slot")
            reason = re.sub(r"[^a-z0-9_]", "-", str(item.get("reason") or "failed").lower())[:40]
            name = f"{reason}-{_whole(slot):04d}-{_whole(session):06d}.json"
            if name not in self._transcripts and len(self._transcripts) < MAX_TRANSCRIPTS:
                self._transcripts.add(name)
                write(folder / name, json.dumps(item, indent=1, ensure_ascii=False))

    def write_report(self, page: str) -> None:
        write(self.path / REPORT, page)


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 10**12 else 0


@dataclass(frozen=True)
class StoredRun:
    """A run in the folder of results. `is_running`: its command still measures it."""

    path: Path
    summary: Summary
    is_running: bool

    def measurements(self) -> dict[str, Any]:
        """Raises StoreError."""
        found = _json(self.path / MEASUREMENTS)
        if not isinstance(found, dict):
            raise StoreError(f"{self.path / MEASUREMENTS}: is not an object.")
        return found

    def transcripts(self) -> list[dict[str, Any]]:
        """In the order of their names; files that cannot be read are left out."""
        found = []
        for file in sorted((self.path / TRANSCRIPTS).glob("*.json"))[:MAX_TRANSCRIPTS]:
            try:
                item = _json(file)
            except StoreError:
                continue
            if isinstance(item, dict):
                found.append(item)
        return found


def is_locked(path: Path) -> bool:
    """Whether a process measures the run in this folder."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def find(results: Path, name: str) -> StoredRun:
    """Return a run by its name, or by the beginning of one. Raises StoreError."""
    names = [path.name for path in _folders(results)]
    fitting = [name] if name in names else [n for n in names if name and n.startswith(name)]
    if not fitting:
        raise StoreError(f"{results}: has no run {name!r}. List them with: ape-load results")
    if len(fitting) > 1:
        raise StoreError(f"{name!r} stands for {len(fitting)} runs. Write more of its name.")
    return load(results / fitting[0])


def load(path: Path) -> StoredRun:
    """Raises StoreError."""
    file = path / SUMMARY
    found = _json(file)
    if isinstance(found, dict) and found.get("version") != VERSION:
        raise StoreError(
            f"{file}: has version {found.get('version')!r:.20} of the schema; this command reads "
            f"version {VERSION}. Read it with the version of ape-load that wrote it."
        )
    try:
        return StoredRun(path, Summary.model_validate(found), is_locked(path))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "it"
        raise StoreError(f"{file}: {where}: {first['msg']}. Is it from `ape-load run`?") from None


def load_all(results: Path) -> tuple[list[StoredRun], list[str]]:
    """Return (the runs, the oldest first; sentences about folders that cannot be read)."""
    runs, problems = [], []
    for path in _folders(results):
        try:
            runs.append(load(path))
        except StoreError as error:
            problems.append(str(error))
    return runs, problems


def _folders(results: Path) -> list[Path]:
    try:
        found = [p for p in results.iterdir() if p.is_dir() and RUN_NAME.fullmatch(p.name)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StoreError(f"{results}: cannot be read ({error.strerror}).") from None
    return sorted(path for path in found if (path / SUMMARY).exists())


def _json(file: Path) -> Any:
    try:
        if file.stat().st_size > MAX_BYTES:
            raise StoreError(f"{file}: is larger than {MAX_BYTES >> 20} MB.")
        return json.loads(file.read_text("utf-8"))
    except OSError as error:
        raise StoreError(f"{file}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise StoreError(f"{file}: is not JSON in UTF-8. The run's data is damaged.") from None
