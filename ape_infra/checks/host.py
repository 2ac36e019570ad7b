"""This machine as `ape-load doctor` sees it: its variables, folders and programs."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ape_infra.config.project import SOURCE_ROOT

COMMAND_SECONDS = 20


def output_of(command: Sequence[str]) -> str | None:
    """What a program prints; None where it is not installed, fails, or does not end in time."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=True
        )
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _account_home() -> Path:
    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path.home()


@dataclass(frozen=True)
class Host:
    """`sources`: the folder of this project. `find`, `ask`: as shutil.which and `output_of`."""

    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ), repr=False)
    home: Path = field(default_factory=Path.home)
    account_home: Path = field(default_factory=_account_home)
    sources: Path = SOURCE_ROOT
    find: Callable[[str], str | None] = shutil.which
    ask: Callable[[Sequence[str]], str | None] = output_of

    @property
    def is_clone(self) -> bool:
        """Whether this is a clone of the project, which `make setup` can set up."""
        return (self.sources / "offline" / "setup.sh").is_file()

    @property
    def pulumi_home(self) -> Path:
        """Pulumi's default is in the home of the account, whatever HOME is."""
        return Path(self.env.get("PULUMI_HOME") or self.account_home / ".pulumi")

    def json(self, file: Path) -> Mapping[str, Any]:
        """The object in a file; empty: it is missing, or has something else."""
        try:
            found = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return found if isinstance(found, dict) else {}
