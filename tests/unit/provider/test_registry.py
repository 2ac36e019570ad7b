"""The credentials of a registry, as the stand-in provider sends them with a service."""

import base64
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import docker.auth
import pytest

from ape_docker_provider import service
from ape_docker_provider.daemon import Daemon, DaemonError

pytestmark = pytest.mark.unit
IMAGE = "registry.example:5000/ape-agent:1"


def logged_in(folder: Path) -> Daemon:
    """A daemon whose client has `docker login` of one registry."""
    login = base64.b64encode(b"ape:secret").decode()
    config = folder / "config.json"
    config.write_text(json.dumps({"auths": {"registry.example:5000": {"auth": login}}}))
    given = [{"address": "registry.example:5000"}, {"address": "other.example"}]
    made = Daemon({"registryAuth": json.dumps(given)})
    loaded = docker.auth.load_config(str(config))
    made._client = SimpleNamespace(_auth_configs=loaded, credstore_env={})
    return made


def test_a_service_is_sent_with_the_login_of_its_registry(tmp_path: Path) -> None:
    inputs = {"taskSpec": {"containerSpec": {"image": IMAGE}}}
    headers = service.registry_headers(logged_in(tmp_path), inputs)
    assert headers
    sent: dict[str, Any] = json.loads(base64.urlsafe_b64decode(headers["X-Registry-Auth"]))
    assert (sent["username"], sent["password"]) == ("ape", "secret")


def test_other_images_are_sent_without_a_login(tmp_path: Path) -> None:
    assert logged_in(tmp_path).registry_headers("prom/prometheus:v2.42.0") == {}
    assert Daemon({}).registry_headers(IMAGE) == {}


def test_a_registry_without_a_login_is_reported(tmp_path: Path) -> None:
    with pytest.raises(DaemonError, match="no credentials for other"):
        logged_in(tmp_path).registry_headers("other.example/ape-agent:1")
