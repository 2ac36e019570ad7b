"""What the tests of checks share."""

import shutil
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from tests.support.facts import MB

FreeDisk = Callable[[int], None]


@pytest.fixture
def free_disk(monkeypatch: pytest.MonkeyPatch) -> FreeDisk:
    """Sets the MiB that are free on the disk of the made-up machine."""

    def free(mb: int) -> None:
        monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=mb * MB))

    free(10**6)
    return free
