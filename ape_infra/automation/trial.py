"""A trial config: a copy of the stack config with other values."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from ape_infra.config.settings import Settings

Values = Mapping[str, str | None]


class ConfigStore(Protocol):
    """The part of the engine that reads and writes configs."""

    name: str
    config_file: Path

    def settings(self, file: Path | None = None) -> Settings: ...

    def set_config(self, values: Values, file: Path | None = None) -> None: ...


class ConfigTrial:
    """The trial config in `file`; None among `values` stands for the default."""

    def __init__(self, store: ConfigStore, file: Path, values: Values) -> None:
        self._store, self.file, self._values = store, file, values
        self._original = store.config_file.read_bytes()
        shutil.copy(store.config_file, file)
        store.set_config(values, file)

    def settings(self) -> Settings:
        return self._store.settings(self.file)

    def accept(self) -> None:
        """Make it the stack config, in one step."""
        if self._store.config_file.read_bytes() == self._original:
            with self.file.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.file, self._store.config_file)
        else:
            # Somebody edited the stack config meanwhile; keep the edit, and write our values.
            self._store.set_config(self._values)


@contextmanager
def trial_config(store: ConfigStore, values: Values) -> Iterator[ConfigTrial]:
    """A trial config that is removed in the end."""
    # Beside the stack config, so that a rename puts it in place.
    folder = store.config_file.parent
    handle, path = tempfile.mkstemp(prefix=f".trial-{store.name}-", suffix=".yaml", dir=folder)
    os.close(handle)
    try:
        yield ConfigTrial(store, Path(path), values)
    finally:
        Path(path).unlink(missing_ok=True)


def remove_stale_trials(store: ConfigStore) -> None:
    """Remove the trial configs that a killed command left."""
    for stale in store.config_file.parent.glob(f".trial-{store.name}-*.yaml"):
        stale.unlink(missing_ok=True)
