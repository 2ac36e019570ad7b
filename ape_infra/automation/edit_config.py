"""Changes of a stack config that are checked before they are written."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.errors import EngineError, reason
from ape_infra.automation.trial import Values
from ape_infra.config.project import ProjectError, config_key

WriteSecret = Callable[[Path], None]


def change(engine: PulumiEngine, values: Values) -> None:
    """Write the values; None removes one. Raises SettingsError, and has then written nothing."""
    with _existing(engine.config_file), engine.trial(values) as trial:
        trial.settings()
        trial.accept()


def change_secret(engine: PulumiEngine, key: str, value: str) -> None:
    """Encrypt the value and write it. Raises SettingsError, and has then written nothing."""
    with _existing(engine.config_file), engine.trial({}) as trial:
        _encrypt(engine, key, value, trial.file)
        trial.settings()
        trial.accept()
        # An accepted trial config was renamed, unless the stack config was edited meanwhile.
        if trial.file.exists():
            raise ProjectError(
                f"{engine.config_file}: was edited meanwhile. Run the command again."
            )


@contextmanager
def _existing(file: Path) -> Iterator[None]:
    """The file, which begins empty where it is missing, and is removed where it stays so."""
    missing = not file.exists()
    if missing:
        file.touch()
    try:
        yield
    finally:
        if missing and file.stat().st_size == 0:
            file.unlink()


def _encrypt(engine: PulumiEngine, key: str, value: str, file: Path) -> None:
    """As `pulumi config set --secret`. The value is not among the arguments, which `ps` shows."""
    where = ["--stack", engine.name, "--config-file", str(file)]
    done = subprocess.run(
        ["pulumi", "config", "set", "--secret", *where, "--", config_key(key)],
        input=value,
        cwd=engine.project.root,
        env={**os.environ, **engine.stack.workspace.env_vars},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise EngineError(f"Pulumi: {reason(RuntimeError(done.stderr))}")
