"""Docker 29, which takes no API before 1.44: the monitor, and a shipper of 1.43."""

import time
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
from docker.errors import APIError

from ape_contracts.service_settings import SocketProxySettings
from ape_socket_proxy.__main__ import check
from bench.fuzz.services import process
from monitoring.inventory import Inventory, Watcher
from tests.support.fake_docker import FakeDocker

pytestmark = pytest.mark.e2e
LABELS = {"ape.project": "ape", "ape.stack": "dev", "ape.service": "gateway"}


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeDocker]:
    made = FakeDocker(tmp_path, oldest="1.44")
    made.put("a" * 64, "ape-dev-gateway", labels=LABELS)
    yield made
    made.close()


@pytest.fixture
def proxied(fake: FakeDocker, tmp_path: Path) -> Iterator[str]:
    listen = tmp_path / "down"
    settings = SocketProxySettings(
        project="ape", stack="dev", listen=str(listen), docker_socket=str(fake.path), logs=True
    )
    with process("socket_proxy", settings, tmp_path / "log"):
        for _ in range(200):
            if check(str(listen)):
                break
            time.sleep(0.05)
        yield f"unix://{listen}"


def test_a_shipper_of_api_1_43_reads_docker_29_through_the_socket_proxy(
    fake: FakeDocker, proxied: str
) -> None:
    direct = docker.APIClient(base_url=fake.url, version="1.43", timeout=10)
    through = docker.APIClient(base_url=proxied, version="1.43", timeout=10)
    try:
        with pytest.raises(APIError, match="is too old"):
            direct.containers()
        assert [found["Id"] for found in through.containers(all=True)] == ["a" * 64]
        assert through.logs("a" * 64) == b"a line\n"
    finally:
        direct.close()
        through.close()


@pytest.mark.parametrize("through", [False, True], ids=["direct", "socket proxy"])
def test_the_monitor_lists_the_containers_of_docker_29(
    fake: FakeDocker, proxied: str, through: bool
) -> None:
    inventory = Inventory("ape-dev")
    watcher = Watcher(inventory, proxied if through else fake.url)
    watcher.start()
    try:
        assert watcher.listed.wait(10)
        assert [c.service for c in inventory.snapshot()] == ["gateway"]
    finally:
        watcher.stop()
