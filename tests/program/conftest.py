import asyncio
import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def loop() -> Iterator[None]:
    """Pulumi's mocks use the thread's event loop, which tests before may have closed."""
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    asyncio.set_event_loop(None)
    made.close()
    # The program does without it.
    gc.enable()
