"""Network calls of the stand-in provider, with a scripted daemon."""

from typing import Any

import pytest

from ape_docker_provider import network

pytestmark = pytest.mark.unit


class Allocating:
    """A Swarm manager: the new network has its driver only at the third request."""

    def __init__(self) -> None:
        self.requests = 0

    def call(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        if method == "POST":
            return {"Id": "n1"}
        self.requests += 1
        found = {
            "Id": "n1",
            "Name": "over",
            "Driver": "overlay" if self.requests > 2 else "",
            "Scope": "swarm",
            "Internal": False,
            "Attachable": False,
            "Ingress": False,
            "EnableIPv6": False,
        }
        return found

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds < 1


def test_a_new_overlay_network_is_read_after_its_allocation() -> None:
    daemon: Any = Allocating()
    made_id, state = network.create(daemon, {"name": "over", "driver": "overlay"})
    assert (made_id, state["driver"]) == ("n1", "overlay")
