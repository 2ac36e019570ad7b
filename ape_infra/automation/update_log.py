"""Pulumi's own output of the updates of a command, in a file of `.ape/logs/`."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO

LOGS = ".ape/logs"
KEPT_LOGS = 20


class UpdateLog:
    """The file is created with the first line; a disk that refuses it stops no update.

    The newest KEPT_LOGS files of a command and stack stay.
    """

    def __init__(self, root: Path, command: str, stack: str) -> None:
        self._folder, self._name = root / LOGS, f"{command}-{stack}"
        self.path: Path | None = None
        self.problem = ""
        self._file: IO[str] | None = None

    def heading(self, text: str) -> None:
        self.line(f"=== {time.strftime('%H:%M:%S')} {text}")

    def line(self, text: str) -> None:
        if self.problem:
            return
        try:
            if self._file is None:
                self._file = self._opened()
            self._file.write(text + "\n")
            self._file.flush()
        except OSError as error:
            self.problem = f"Pulumi's output cannot be written to {LOGS}: {error}"

    def _opened(self) -> IO[str]:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f"{self._name}-{time.strftime('%Y%m%d-%H%M%S')}.log"
        old = sorted(self._folder.glob(f"{self._name}-{'[0-9]' * 8}-{'[0-9]' * 6}.log"))
        for each in old[: max(0, len(old) - KEPT_LOGS + 1)]:
            each.unlink(missing_ok=True)
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")
        self.path = path
        return file

    def close(self) -> None:
        if self._file is not None:
            try:
                self._file.close()
            except OSError:
                pass
