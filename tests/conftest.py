"""What the live tiers share."""

import gc
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import settings
from xdist.scheduler import WorkStealingScheduling

from tests.support import images
from tests.support.live import PREFIX, ROOT, LiveStack, sweep_stale
from tests.support.nodes import sweep_nodes


def pytest_configure() -> None:
    _use_setup()
    # A busy machine is not a failure.
    settings.register_profile("ape", deadline=None)
    settings.load_profile("ape")
    # Python's own 700 takes a third of the time of the imports.
    gc.set_threshold(100_000, 50, 50)
    # A shell starts what it sends to the background with SIGINT ignored, and that is inherited:
    # the commands that tests stop with it would not hear it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_xdist_auto_num_workers() -> int:
    """Two for each core: tests wait more than they compute."""
    return 2 * (psutil.cpu_count() or 1)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> WorkStealingScheduling | None:
    """Only live tests have groups that share a stack; without groups, no worker waits for its next

    test.
    """
    live = not config.option.markexpr or {"engine", "e2e"} & set(config.option.markexpr.split())
    return None if live else WorkStealingScheduling(config, log)


def _use_setup() -> None:
    """Take the environment that `make setup` wrote, whichever shell or IDE started the tests."""
    written = ROOT / ".ape/env"
    if "APE_SETUP" not in os.environ and written.exists():
        shown = subprocess.run(
            ["bash", "-c", '. "$0" && env -0', str(written)], capture_output=True, check=True
        )
        pairs = (line.partition("=") for line in shown.stdout.decode().split("\0") if line)
        os.environ.update({name: value for name, _, value in pairs})


def _seconds(item: pytest.Item) -> float:
    """About how long the test or the group that it belongs to takes, as its marker says."""
    marker = item.get_closest_marker("seconds")
    return float(marker.args[0]) if marker else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest begin first, so that none of them runs alone at the end."""
    items.sort(key=_seconds, reverse=True)


def pytest_sessionstart(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput") and not _another_run():
        sweep_stale()
        if os.geteuid() == 0 and shutil.which("ip"):
            sweep_nodes()


def pytest_sessionfinish(session: pytest.Session) -> None:
    if not hasattr(session.config, "workerinput") and not _another_run():
        images.release()


def _another_run() -> bool:
    """Whether another pytest runs on this machine, whose stacks are not stale."""
    me = psutil.Process()
    ours = {p.pid for p in (me, *me.parents(), *me.children(recursive=True))}
    return any(
        any(Path(word).name in ("pytest", "py.test") for word in p.info["cmdline"] or ())
        for p in psutil.process_iter(["cmdline"])
        if p.pid not in ours
    )


@pytest.fixture(scope="session")
def held_images() -> dict[str, str]:
    """Service -> image; they stay for the whole run."""
    found = images.built(*images.SERVICES)
    images.hold(found)
    return found


@pytest.fixture(scope="session")
def shared_stack(
    tmp_path_factory: pytest.TempPathFactory, held_images: dict[str, str]
) -> Iterator[LiveStack]:
    """A dev stack of two agents, for tests that leave it as it is.

    They are in the xdist group "shared", so that there is one of it.
    """
    stack = LiveStack(tmp_path_factory.mktemp("shared"), f"{PREFIX}shared")
    try:
        stack.config(agents=2)
        stack.up()
        yield stack
        stack.destroy()
        assert stack.leftovers() == []
    finally:
        stack.sweep()


@pytest.fixture
def live(tmp_path: Path, held_images: dict[str, str]) -> Iterator[Callable[..., LiveStack]]:
    """Makes stacks, and takes away what a failed test leaves of them."""
    made: list[LiveStack] = []

    def make(name: str, base: str = "dev", **options: Any) -> LiveStack:
        assert name.startswith(PREFIX), "or nobody takes it away after a run that is killed"
        folder = tmp_path / name
        folder.mkdir()
        made.append(LiveStack(folder, name, base, **options))
        return made[-1]

    yield make
    for stack in made:
        stack.sweep()
