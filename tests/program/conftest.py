import asyncio
import gc
from collections.abc import Iterator

import pytest
from pulumi import log
from pulumi.runtime import resource as registration
from pulumi.runtime.settings import SETTINGS


@pytest.fixture(autouse=True)
def loop(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The state of the process that the program changes: event loop, SDK, garbage collection."""
    # As they are now, to be restored: the program patches the SDK.
    monkeypatch.setattr(log, "debug", log.debug)
    monkeypatch.setattr(registration, "_get_stack_trace", registration._get_stack_trace)
    # Pulumi's mocks use the thread's event loop, which tests before may have closed.
    made = asyncio.new_event_loop()
    asyncio.set_event_loop(made)
    yield
    # The next program must not wait for what is left of this loop.
    SETTINGS.rpc_manager.clear()
    SETTINGS.outputs.clear()
    asyncio.set_event_loop(None)
    made.close()
    gc.enable()
