"""One command at a time per stack, and a note of a command that was interrupted."""

from __future__ import annotations

import fcntl
import getpass
import json
import os
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self


class LockHeldError(Exception):
    """Another command works on the stack; the text names it."""


class Lock:
    """The kernel releases the lock however the process ends; the note in the file stays.

    `interrupted`: the note of a command that began to change the stack and did not finish.
    """

    def __init__(self, folder: Path, stack: str) -> None:
        self._path = folder / f"{stack}.json"
        self._stack = stack
        self.interrupted: dict[str, Any] | None = None

    def __enter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note = self._read()
            self._file.close()
            raise LockHeldError(
                f"Stack {self._stack} is locked by `{note.get('command', 'another command')}` of "
                f"{note.get('user', 'another user')} (process {note.get('pid', 'unknown')}, since "
                f"{note.get('since', 'just now')}). Wait for it, or stop it with Ctrl-C there."
            ) from None
        note = self._read()
        self.interrupted = note if note.get("changing") else None
        self._write(changing=self.interrupted is not None)
        return self

    def begin(self) -> None:
        """Note that the command begins to change the stack."""
        self._write(changing=True)

    def end(self) -> None:
        """Note that the stack matches its config."""
        self.interrupted = None
        self._write(changing=False)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()

    def _read(self) -> dict[str, Any]:
        self._file.seek(0)
        try:
            note = json.loads(self._file.read() or "{}")
        except ValueError:
            # Killed while it wrote the note: treat it as interrupted.
            return {"changing": True}
        return note if isinstance(note, dict) else {}

    def _write(self, *, changing: bool) -> None:
        note = {
            "pid": os.getpid(),
            "command": " ".join(["ape-load", *sys.argv[1:]]),
            "user": f"{getpass.getuser()}@{socket.gethostname()}",
            "since": time.strftime("%H:%M:%S"),
            "changing": changing,
        }
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(note))
        self._file.flush()
        os.fsync(self._file.fileno())
