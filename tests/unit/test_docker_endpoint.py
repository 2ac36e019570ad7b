"""Whose daemon is used: the order of the docker command, with homes that are made up."""

import hashlib
import json
from pathlib import Path

import docker
import pytest

from ape_contracts.docker_endpoint import (
    CERTIFICATES,
    LOCAL_SOCKET,
    Endpoint,
    EndpointError,
    client_options,
    daemon_socket,
    resolve,
)
from ape_docker_provider.daemon import Daemon, DaemonError
from ape_infra.checks.connection import PreflightError, connect
from ape_infra.config.parsing import parse
from ape_infra.program import provider

pytestmark = pytest.mark.unit
ROOTLESS = "unix:///run/user/1000/docker.sock"
DESKTOP = "unix:///Users/ada/.docker/run/docker.sock"


def add_context(home: Path, name: str, host: str, **more: object) -> Path:
    """Write a context as Docker's CLI does; returns the folder for its certificates."""
    identity = hashlib.sha256(name.encode()).hexdigest()
    meta = home / ".docker/contexts/meta" / identity / "meta.json"
    meta.parent.mkdir(parents=True)
    text = {"Name": name, "Metadata": {}, "Endpoints": {"docker": {"Host": host, **more}}}
    meta.write_text(json.dumps(text))
    return home / ".docker/contexts/tls" / identity / "docker"


def use(home: Path, context: str) -> None:
    (home / ".docker").mkdir(exist_ok=True)
    (home / ".docker/config.json").write_text(json.dumps({"currentContext": context, "auths": {}}))


def test_without_variables_and_contexts_the_local_socket_needs_no_address(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path)}
    assert resolve(env=env) == Endpoint()
    use(tmp_path, "default")
    assert resolve(env=env) == Endpoint()
    assert resolve(env=env | {"DOCKER_CONTEXT": "default"}) == Endpoint()
    (tmp_path / ".docker/config.json").write_text("[]")
    assert resolve(env=env) == Endpoint()
    assert client_options(Endpoint(), {}) == {"base_url": "unix:///var/run/docker.sock"}


def test_the_order_is_setting_docker_host_docker_context_current_context(tmp_path: Path) -> None:
    for name, host in (("rootless", ROOTLESS), ("desktop-linux", DESKTOP)):
        add_context(tmp_path, name, host)
    use(tmp_path, "rootless")
    env = {"HOME": str(tmp_path)}
    assert resolve(env=env) == Endpoint(ROOTLESS, "rootless")
    assert resolve(env=env | {"DOCKER_CONTEXT": "desktop-linux"}).host == DESKTOP
    assert resolve(env=env | {"DOCKER_CONTEXT": "default"}) == Endpoint()
    assert resolve(env=env | {"DOCKER_HOST": "tcp://a:1"}) == Endpoint("tcp://a:1")
    assert resolve("tcp://b:1", env | {"DOCKER_HOST": "tcp://a:1"}) == Endpoint("tcp://b:1")


def test_the_config_folder_of_the_docker_command_is_used(tmp_path: Path) -> None:
    add_context(tmp_path / "other", "colima", DESKTOP)
    use(tmp_path / "other", "colima")
    env = {"HOME": str(tmp_path), "DOCKER_CONFIG": str(tmp_path / "other/.docker")}
    assert resolve(env=env).host == DESKTOP


def test_a_context_at_the_local_socket_is_the_same_as_none(tmp_path: Path) -> None:
    add_context(tmp_path, "mine", "unix:///var/run/docker.sock")
    assert resolve(env={"HOME": str(tmp_path), "DOCKER_CONTEXT": "mine"}).host == ""


def test_a_context_that_cannot_be_read_is_an_error_with_its_remedy(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path), "DOCKER_CONTEXT": "gone"}
    with pytest.raises(EndpointError, match=r"context gone cannot .* `docker context ls`"):
        resolve(env=env)
    add_context(tmp_path, "kube", "")
    meta = next((tmp_path / ".docker/contexts/meta").rglob("meta.json"))
    meta.write_text('{"Name": "kube", "Endpoints": {"kubernetes": {}}}')
    with pytest.raises(EndpointError, match="KeyError"):
        resolve(env=env | {"DOCKER_CONTEXT": "kube"})


def test_a_context_and_an_address_of_two_daemons_are_refused(tmp_path: Path) -> None:
    add_context(tmp_path, "rootless", ROOTLESS)
    env = {"HOME": str(tmp_path), "DOCKER_CONTEXT": "rootless", "DOCKER_HOST": "tcp://a:1"}
    with pytest.raises(EndpointError, match="DOCKER_HOST tcp://a:1 name two daemons"):
        resolve(env=env)
    assert resolve(env=env | {"DOCKER_HOST": ROOTLESS}).host == ROOTLESS


def test_a_context_has_its_own_certificates_and_no_variable_changes_them(tmp_path: Path) -> None:
    folder = add_context(tmp_path, "far", "tcp://far:2376", SkipTLSVerify=False)
    env = {"HOME": str(tmp_path), "DOCKER_CONTEXT": "far", "DOCKER_CERT_PATH": "/nowhere"}
    assert client_options(resolve(env=env), env) == {"base_url": "tcp://far:2376"}
    folder.mkdir(parents=True)
    for name in CERTIFICATES:
        (folder / name).touch()
    options = client_options(resolve(env=env), env)
    assert options["tls"].cert == (f"{folder}/cert.pem", f"{folder}/key.pem")
    assert options["tls"].verify is True


def test_the_variables_of_tls_count_for_a_tcp_address_only(tmp_path: Path) -> None:
    for name in CERTIFICATES:
        (tmp_path / name).touch()
    env = {"DOCKER_CERT_PATH": str(tmp_path)}
    assert client_options(Endpoint("tcp://a:1"), env)["tls"].verify is True
    assert "tls" not in client_options(Endpoint(ROOTLESS), env)
    assert "tls" not in client_options(Endpoint("tcp://a:1"), {"HOME": "/nowhere"})


def test_an_ssh_address_uses_the_users_ssh_and_its_library_is_installed() -> None:
    options = client_options(Endpoint("ssh://ada@far"), {})
    assert options == {"base_url": "ssh://ada@far", "use_ssh_client": True}
    client = docker.APIClient(version="1.41", **options)
    assert client.base_url == "http+docker://ssh"


@pytest.mark.parametrize(
    ("host", "platform", "socket"),
    [
        ("", "linux", LOCAL_SOCKET),
        (ROOTLESS, "linux", "/run/user/1000/docker.sock"),
        ("tcp://a:2376", "linux", LOCAL_SOCKET),
        ("ssh://ada@far", "linux", LOCAL_SOCKET),
        (DESKTOP, "darwin", LOCAL_SOCKET),
        ("unix:///tmp/docker.sock", "darwin", LOCAL_SOCKET),
        ("unix:///home/ada/.docker/desktop/docker.sock", "linux", LOCAL_SOCKET),
        ("unix:///Users/ada/.colima/default/docker.sock", "darwin", LOCAL_SOCKET),
        ("unix:///home/ada/.lima/docker/sock/docker.sock", "linux", LOCAL_SOCKET),
    ],
)
def test_the_socket_for_a_mount_is_the_one_on_the_daemons_host(
    host: str, platform: str, socket: str
) -> None:
    assert daemon_socket(Endpoint(host), platform) == socket


def test_program_checks_and_plugin_use_the_daemon_of_the_context(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that deletes must not ask another daemon than Pulumi."""
    address = f"unix://{tmp_path}/none.sock"
    add_context(tmp_path, "mine", address)
    use(tmp_path, "mine")
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert provider.config("") == {"host": address}
    assert Daemon({}).host == Daemon({"host": address}).host == address
    with pytest.raises(PreflightError, match=rf"answers at {address} \(Docker context mine\)"):
        connect(parse({}))
    use(tmp_path, "gone")
    with pytest.raises(PreflightError, match="Docker context gone cannot be read"):
        connect(parse({}))
    with pytest.raises(DaemonError, match="Docker context gone cannot be read"):
        _ = Daemon({}).host


def test_without_a_choice_the_provider_has_no_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert provider.config("") == {}
    monkeypatch.setenv("DOCKER_HOST", "tcp://a:1")
    assert provider.config("") == {"host": "tcp://a:1"}
