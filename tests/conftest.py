"""What the live tiers share."""

import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.live import LiveStack


def pytest_configure() -> None:
    # A shell starts what it sends to the background with SIGINT ignored, and that is inherited:
    # the commands that tests stop with it would not hear it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., LiveStack]]:
    """Makes stacks, and takes away what a failed test leaves of them."""
    made: list[LiveStack] = []

    def make(name: str, base: str = "dev") -> LiveStack:
        folder = tmp_path / name
        folder.mkdir()
        made.append(LiveStack(folder, name, base))
        return made[-1]

    yield make
    for stack in made:
        stack.sweep()
