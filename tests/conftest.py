"""What the live tiers share."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live import Live


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Callable[..., Live]]:
    """Makes stacks, and takes away what a failed test leaves of them."""
    made: list[Live] = []

    def make(name: str, base: str = "dev") -> Live:
        folder = tmp_path / name
        folder.mkdir()
        made.append(Live(folder, name, base))
        return made[-1]

    yield make
    for stack in made:
        stack.sweep()
