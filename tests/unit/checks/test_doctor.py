"""The checks of this machine, and the text of them for an issue."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ape_infra.checks import docker_daemon, installation, registries
from ape_infra.checks.check import Check
from ape_infra.checks.connection import PreflightError
from ape_infra.checks.facts import Facts
from ape_infra.checks.host import Host
from ape_infra.checks.redaction import Private, redact, secrets_of
from ape_infra.config.parsing import parse
from tests.support.facts import facts

pytestmark = pytest.mark.unit


def host(
    tmp_path: Path,
    env: Mapping[str, str] | None = None,
    *,
    programs: Sequence[str] = (),
    prints: Mapping[str, str] | None = None,
    clone: bool = True,
) -> Host:
    """A machine whose home and sources are in `tmp_path`."""
    if clone:
        (tmp_path / "offline").mkdir(exist_ok=True)
        (tmp_path / "offline" / "setup.sh").touch()
    return Host(
        env or {},
        home=tmp_path,
        account_home=tmp_path,
        sources=tmp_path,
        find=lambda name: f"/bin/{name}" if name in programs else None,
        ask=lambda command: (prints or {}).get(command[0].rpartition("/")[2]),
    )


def write(file: Path, content: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))


def test_without_pulumi_and_go_the_remedy_is_to_install_one_of_them(tmp_path: Path) -> None:
    pulumi, go = installation.pulumi(host(tmp_path))
    assert (pulumi.status, pulumi.remedy) == ("fail", "Run: make setup.")
    assert go.status == "fail"
    assert "Install Go 1.26" in go.remedy
    (installed,) = installation.pulumi(host(tmp_path / "package", clone=False))
    assert "pulumi.com/docs/install" in installed.remedy


@pytest.mark.parametrize(
    ("version", "status"), [("go1.26.1", "ok"), ("go1.25.9", "warn"), ("go2.0", "ok")]
)
def test_go_must_be_able_to_build_pulumi(tmp_path: Path, version: str, status: str) -> None:
    _, go = installation.pulumi(host(tmp_path, programs=["go"], prints={"go": version}))
    assert go.status == status


def test_pulumi_needs_its_host_for_python_and_the_version_of_the_package(tmp_path: Path) -> None:
    both = ["pulumi", "pulumi-language-python"]
    ours = installation._package("pulumi")
    for programs, version, status in (
        (both, f"v{ours}", "ok"),
        (both, "v3.1.0", "warn"),
        (both[:1], f"v{ours}", "fail"),
    ):
        found = host(tmp_path, programs=programs, prints={"pulumi": version})
        assert [check.status for check in installation.pulumi(found)] == [status]
    (silent,) = installation.pulumi(host(tmp_path, programs=both))
    assert silent.status == "fail"


LOGIN = {
    "current": "https://api.pulumi.com",
    "accounts": {"https://api.pulumi.com": {"username": "ann", "accessToken": "pul-123"}},
}


@pytest.mark.parametrize(
    ("env", "credentials", "status", "text"),
    [
        ({}, {}, "fail", "pulumi login"),
        ({}, LOGIN, "ok", "as ann"),
        ({"PULUMI_ACCESS_TOKEN": "pul-9"}, {}, "ok", "with PULUMI_ACCESS_TOKEN"),
        ({"PULUMI_BACKEND_URL": "https://u:pw@pulumi.example"}, LOGIN, "fail", "nobody"),
        ({"PULUMI_BACKEND_URL": "s3://states?region=x"}, {}, "warn", "Set PULUMI_CONFIG_PASS"),
        (
            {"PULUMI_BACKEND_URL": "s3://states", "PULUMI_CONFIG_PASSPHRASE": ""},
            {},
            "ok",
            "s3://states",
        ),
        ({"PULUMI_BACKEND_URL": "file:///no/folder"}, {}, "fail", "not a folder"),
    ],
)
def test_login_names_backend_user_and_passphrase(
    tmp_path: Path, env: dict[str, str], credentials: object, status: str, text: str
) -> None:
    write(tmp_path / ".pulumi" / "credentials.json", credentials)
    (found,) = installation.login(host(tmp_path, env))
    assert found.status == status
    assert text in found.text
    assert "pul-" not in found.text
    assert "pw@" not in found.text


def test_plugin_check_distinguishes_the_stand_in(tmp_path: Path) -> None:
    machine = host(tmp_path)
    (missing,) = installation.plugin(machine)
    assert missing.status == "warn"
    folder = f"resource-docker-v{installation._package('pulumi-docker')}"
    file = tmp_path / ".pulumi" / "plugins" / folder / "pulumi-resource-docker"
    write(file, "#!/bin/sh\n")
    (stand_in,) = installation.plugin(machine)
    assert "stand-in" in stand_in.observed
    file.write_bytes(b"\x7fELF")
    (published,) = installation.plugin(machine)
    assert published.status == "ok"
    assert "stand-in" not in published.observed


def test_a_context_of_docker_that_is_not_used_is_a_warning_with_its_address(tmp_path: Path) -> None:
    write(tmp_path / ".docker" / "config.json", {"currentContext": "far"})
    meta = {"Name": "far", "Endpoints": {"docker": {"Host": "ssh://far"}}}
    write(tmp_path / ".docker" / "contexts" / "meta" / "abc" / "meta.json", meta)
    (found,) = docker_daemon.context(host(tmp_path))
    assert (found.status, found.remedy) == (
        "warn",
        "To use the same daemon: export DOCKER_HOST=ssh://far",
    )
    for known in ({"DOCKER_HOST": "ssh://far"}, {"DOCKER_CONTEXT": "default"}):
        (found,) = docker_daemon.context(host(tmp_path, known))
        assert found.status == "ok"
    (found,) = docker_daemon.context(host(tmp_path), "tcp://set:2376")
    assert "tcp://set:2376" in found.observed


@pytest.mark.parametrize(
    ("reason", "programs", "remedy"),
    [
        ("PermissionError(13, 'Permission denied')", ["dockerd"], "group docker"),
        ("FileNotFoundError(2, 'No such file or directory')", [], "Install Docker"),
        ("ConnectionRefusedError(111, 'Connection refused')", ["dockerd"], "systemctl start"),
    ],
)
def test_a_daemon_that_does_not_answer_has_the_remedy_of_its_reason(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    reason: str,
    programs: list[str],
    remedy: str,
) -> None:
    def connect(settings: object) -> None:
        text = f"no Docker daemon answers (('Connection aborted.', {reason}))."
        raise PreflightError([Check("daemon", "fail", text)])

    monkeypatch.setattr("ape_infra.checks.facts.connect", connect)
    connected, found = docker_daemon.reached(
        Facts(parse({}), "", "dev"), host(tmp_path, programs=programs)
    )
    assert connected is None
    assert remedy in found.remedy
    assert found.observed.endswith(f"/var/run/docker.sock: {reason.split(chr(39))[1]}.")


def test_a_daemon_that_answers_has_a_version_limits_and_capacity(tmp_path: Path) -> None:
    old, found = docker_daemon.reached(facts({}, docker_version="19.3.1"), host(tmp_path))
    assert old
    assert found.status == "fail"
    known, found = docker_daemon.reached(facts({}), host(tmp_path))
    assert known
    assert found.status == "ok"
    assert [check.status for check in docker_daemon.cgroups(known)] == ["ok"]
    names = {check.name for check in docker_daemon.capacity(known)}
    assert names == {"memory", "cpu", "disk", "names"}
    unlimited = replace(known)
    unlimited.__dict__["info"] = {**known.info, "MemoryLimit": False}
    (check,) = docker_daemon.cgroups(unlimited)
    assert (check.status, "memory" in check.observed) == ("fail", True)


def test_registries_are_those_of_the_images_and_each_has_its_reason() -> None:
    own = {"images": '{"gateway": "registry.local:5000/ape/gateway:1"}'}
    assert registries.needed(parse(own)) == ["docker.io", "registry.local:5000"]
    answers = {"docker.io": "", "ghcr.io": "no connection"}
    found = list(registries.reached(answers, answers.__getitem__, clone=False))
    assert [check.status for check in found] == ["ok", "warn"]
    assert "no connection" in found[1].observed
    assert "offline/images.sh" not in found[1].remedy


PRIVATE = Private(
    users=("ann", "root"),
    hosts=("annas-laptop",),
    paths={"/home/ann": "~", "/home/ann/work/shop": "[project]"},
    secrets=("swordfish",),
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/home/ann/work/shop/.ape", "[project]/.ape"),
        ("/home/ann/.pulumi", "~/.pulumi"),
        ("/home/bob/x and /Users/bob/x", "/home/[user]/x and /Users/[user]/x"),
        ("as ann on annas-laptop, not annual", "as [user] on [host], not annual"),
        ("Run as root", "Run as root"),
        ("https://u:pw@host/x", "https://[secret]@host/x"),
        ("Authorization: Bearer abc.def", "Authorization: Bearer [secret]"),
        ("token pul-0123456789abcdef", "token [secret]"),
        ("key=swordfish!", "key=[secret]!"),
    ],
)
def test_report_has_no_secrets_names_and_home_paths(text: str, shown: str) -> None:
    assert redact(text, PRIVATE) == shown


TEXT = st.text(alphabet="aé.*+?(\\^$| /:@", max_size=12)


@settings(max_examples=25)
@given(TEXT, TEXT.filter(lambda text: len(text) >= 4), TEXT)
def test_no_secret_of_the_environment_is_in_a_report(before: str, secret: str, after: str) -> None:
    env = {"MY_API_KEY": secret, "PASSPHRASE_FILE": "/run/file", "LANG": "C.UTF-8"}
    known = secrets_of(env)
    assert known == (secret,)
    marked = redact(f"{before}{secret}{after}", Private(secrets=known))
    assert secret not in marked.replace("[secret]", "[]")
