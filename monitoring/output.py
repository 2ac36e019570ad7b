"""The file of `--output`: complete lines only, rotated by size."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable
from pathlib import Path

MAX_BYTES = 100 * 2**20
KEEP = 5
RETRY_SECONDS = 60.0

_log = logging.getLogger(__name__)


class LineFile:
    """Appends lines to `path`; FILE.1 to FILE.`keep` are the rotated files, the newest first.

    A line is written by one call. A partly written line (the disk is full) is removed, so that a
    reader sees only complete lines. After a failure, writing pauses for RETRY_SECONDS.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = MAX_BYTES,
        keep: int = KEEP,
        clock: Callable[[], float] = time.monotonic,
        write: Callable[[int, bytes], int] = os.write,
    ) -> None:
        """Open the file. Raises OSError where that fails."""
        self.path, self._max, self._keep = path, max_bytes, keep
        self._clock, self._write = clock, write
        self._paused_until = float("-inf")
        self.problem = ""
        self._fd = self._open()

    def _open(self) -> int:
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        try:
            self._complete_last_line(fd)
        except OSError:
            pass  # Not a regular file, such as /dev/stdout.
        return fd

    def _complete_last_line(self, fd: int) -> None:
        """Remove the partial line that a killed writer may have left."""
        size = os.fstat(fd).st_size
        end = size
        while end > 0:
            start = max(0, end - 65536)
            block = os.pread(fd, end - start, start)
            if (at := block.rfind(b"\n")) >= 0:
                if start + at + 1 < size:
                    os.ftruncate(fd, start + at + 1)
                return
            end = start
        if size:
            os.ftruncate(fd, 0)

    def append(self, line: bytes) -> bool:
        """Write the line; return whether it is in the file. Never raises."""
        if self._clock() < self._paused_until:
            return False
        try:
            if self._fd < 0:
                self._fd = self._open()
            size = os.fstat(self._fd).st_size
            if size and size + len(line) > self._max:
                self._rotate()
                size = 0
            written = self._write(self._fd, line)
            if written != len(line):
                os.ftruncate(self._fd, size)
                raise OSError(28, "No space left on device")
        except OSError as error:
            if not self.problem:
                _log.error(
                    "--output %s: %s. Samples are not written; retrying every %d s.",
                    *(self.path, error.strerror, RETRY_SECONDS),
                )
            self.problem = error.strerror or type(error).__name__
            self._paused_until = self._clock() + RETRY_SECONDS
            return False
        if self.problem:
            _log.info("--output %s: samples are written again.", self.path)
            self.problem = ""
        return True

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        for number in range(self._keep - 1, 0, -1):
            older = self.path.with_name(f"{self.path.name}.{number}")
            if older.exists():
                older.replace(self.path.with_name(f"{self.path.name}.{number + 1}"))
        self.path.replace(self.path.with_name(f"{self.path.name}.1"))
        self._fd = self._open()

    def close(self) -> None:
        """Close the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
