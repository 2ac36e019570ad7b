"""`ape-load restore` and `backup`: a backup from elsewhere writes only what it may."""

import gzip
import io
import json
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner, Result

from ape_infra.automation.errors import NoStackError
from ape_infra.checks import preflight
from ape_infra.checks.check import Check
from ape_infra.checks.preflight import PreflightError
from ape_infra.cli import app, archive
from ape_infra.cli import backup as backup_command
from ape_infra.cli import restore as restore_command
from ape_infra.config import project
from ape_infra.config.parsing import parse

pytestmark = pytest.mark.unit

MANIFEST = {
    "version": 1,
    "project": "ape",
    "stack": "dev",
    "created": "20260101T000000Z",
    "agents": 5,
    "gateway_config": "config/gateway.json",
}
ROUTES = json.dumps({"routes": {"shop": {"base_url": "http://shop:8080"}}}).encode()
STATE = json.dumps({"version": 3, "deployment": {}}).encode()
CONFIG = b"config:\n  ape:agents: '5'\n"


class Engine:
    """Stands for Pulumi's: a stack that does not exist yet, and is created."""

    stacks: ClassVar[set[str]] = set()

    def __init__(self, name: str, on_progress: Any, *, verbose: bool = True, create: bool = True):
        if not create and name not in self.stacks:
            raise NoStackError("is not up")
        self.stacks.add(name)
        self.name, self.project = name, project.current()
        self.config_file = self.project.root / f"Pulumi.{name}.yaml"
        self.stack = SimpleNamespace(workspace=SimpleNamespace(remove_stack=self.stacks.remove))

    def outputs(self) -> dict[str, Any]:
        return {}

    def settings(self) -> Any:
        config = yaml.safe_load(self.config_file.read_text())["config"]
        return parse({key.removeprefix("ape:"): value for key, value in config.items()})

    def model_key(self, settings: Any) -> str:
        return ""

    def run(self, *arguments: str) -> str:
        return STATE.decode()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A project of one's own. No Docker daemon answers."""
    made = tmp_path_factory.mktemp("own") / "project"
    made.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(made)
        Engine.stacks = set()
        for command in (restore_command, backup_command):
            patch.setattr(command, "PulumiEngine", Engine)
        failure = PreflightError([Check("daemon", "fail", "no Docker daemon answers.")])

        def fails(*_: Any, **__: Any) -> None:
            raise failure

        patch.setattr(preflight, "check", fails)
        (made / "Pulumi.yaml").write_text("name: ape\nruntime: python\n")
        (made / "__main__.py").write_text("print('the program')\n")
        (made / "policy").mkdir()
        (made / "policy/dev.json").write_text('{"pinned-image": "advisory"}\n')
        (made / "out").symlink_to(made.parent)
        (made / ".ape").mkdir()
        (made / ".ape/run").write_text("#!/bin/sh\n")
        project.current.cache_clear()
        yield made
    project.current.cache_clear()


def tar(path: Path, parts: Mapping[str, bytes | tarfile.TarInfo]) -> Path:
    with tarfile.open(path, "w:gz") as into:
        for name, content in parts.items():
            if isinstance(content, tarfile.TarInfo):
                # Its header alone: from Python 3.13 on, `addfile` requires the data.
                assert into.fileobj
                into.fileobj.write(content.tobuf())
                into.offset += tarfile.BLOCKSIZE
                continue
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            into.addfile(entry, io.BytesIO(content))
    return path


def packed(path: Path, manifest: Any, **more: Any) -> Path:
    text = manifest if isinstance(manifest, bytes) else json.dumps(manifest).encode()
    parts = {
        "manifest.json": text,
        "stack.yaml": CONFIG,
        "state.json": STATE,
        "gateway.json": ROUTES,
    }
    return tar(path, parts | more)


def tree(folder: Path) -> dict[str, bytes]:
    """What is in the folder and around it."""
    files = (p for p in folder.parent.rglob("*") if p.is_file() and p.suffix != ".gz")
    return {str(p): p.read_bytes() for p in files if "locks" not in p.parts}


def refused(root: Path, file: Path) -> Result:
    before = tree(root)
    result = CliRunner().invoke(app, ["restore", str(file)])
    assert not result.exception or isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 2
    assert "Precondition failed; nothing was changed" in result.output
    assert tree(root) == before
    assert Engine.stacks == set()
    return result


@pytest.mark.parametrize(
    "place",
    [
        "/tmp/ape-restore-outside.json",
        "../outside.json",
        "config/../../outside.json",
        "out/outside.json",
        "__main__.py",
        "sitecustomize.py",
        ".ape/run",
        ".ape/x.json",
        ".git/x.json",
        "config/.hidden.json",
        "Pulumi.yaml",
        "policy/dev.json",
        "policy",
        "__main__.py/x.json",
        "./x.json",
        "a\\b.json",
        "a\n.json",
        " ",
        ".",
    ],
)
def test_restore_refuses_a_gateway_config_outside_of_its_place(
    root: Path, tmp_path: Path, place: str
) -> None:
    refused(root, packed(tmp_path / "b.tar.gz", MANIFEST | {"gateway_config": place}))
    assert not Path("/tmp/ape-restore-outside.json").exists()


@pytest.mark.parametrize("stack", ["../up", "a/b", "", "x" * 101, "a\n", 5, None])
def test_restore_refuses_a_stack_that_is_a_path(root: Path, tmp_path: Path, stack: Any) -> None:
    refused(root, packed(tmp_path / "b.tar.gz", MANIFEST | {"stack": stack}))


def test_restore_that_fails_its_checks_leaves_everything_as_it_was(
    root: Path, tmp_path: Path
) -> None:
    file = packed(tmp_path / "b.tar.gz", MANIFEST)
    assert "no Docker daemon answers" in refused(root, file).output
    assert not (root / "config").exists()
    config = root / "Pulumi.dev.yaml"
    config.write_text("config:\n  ape:agents: '7'\n")
    refused(root, file)
    assert "'7'" in config.read_text()
    config.unlink()


OPENAPI = b'{"openapi": "3.1.0", "paths": {}}'
USERS = b"name,password\nann,secret\n"


@pytest.mark.parametrize(
    ("part", "place", "content"),
    [
        ("openapi", "../api.json", OPENAPI),
        ("openapi", "out/api.json", OPENAPI),
        ("openapi", ".ape/api.json", OPENAPI),
        ("openapi", "api.py", OPENAPI),
        ("openapi", "policy/dev.json", OPENAPI),
        ("openapi", "api.json", b"{}"),
        ("openapi", "Pulumi.prod.yaml", b"openapi: 3.1.0\nconfig: {}\n"),
        ("users", "policy/dev.json", b'{"a": 1}\n'),
        ("users", "/tmp/ape-restore-outside.csv", USERS),
        ("users", "users.csv", b"print(1)\n"),
        ("users", "secrets.csv", USERS + b"\xff"),
        ("upload", "sitecustomize.py", b"print(1)"),
        ("upload", ".ape/run", b"echo"),
        ("upload", "kept.png", b"another"),
        ("upload", "new.png", b"x" * (2**20 + 1)),
    ],
)
def test_restore_refuses_files_that_are_not_of_their_kind_or_place(
    root: Path, tmp_path: Path, part: str, place: str, content: bytes
) -> None:
    (root / "kept.png").write_bytes(b"own")
    manifest = MANIFEST | {"files": {part: place}}
    refused(root, packed(tmp_path / "b.tar.gz", manifest, **{part: content}))


@pytest.mark.parametrize("files", [{"users": "u.csv"}, {"other": "u.csv"}, {"users": 1}, []])
def test_restore_refuses_a_manifest_of_files_that_it_lacks(
    root: Path, tmp_path: Path, files: Any
) -> None:
    refused(root, packed(tmp_path / "b.tar.gz", MANIFEST | {"files": files}))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    JSON
    | st.builds(lambda key, value: MANIFEST | {key: value}, st.sampled_from(list(MANIFEST)), JSON)
)
def test_any_manifest_is_a_sentence_and_writes_nothing(
    root: Path, tmp_path: Path, manifest: Any
) -> None:
    refused(root, packed(tmp_path / "b.tar.gz", manifest))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=600), st.booleans())
def test_any_bytes_are_a_sentence_and_write_nothing(
    root: Path, tmp_path: Path, content: bytes, zipped: bool
) -> None:
    file = tmp_path / "b.tar.gz"
    file.write_bytes(gzip.compress(content) if zipped else content)
    refused(root, file)


def _special(kind: bytes, name: str = "manifest.json") -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = kind, "/etc/passwd"
    return entry


@pytest.mark.parametrize(
    "parts",
    [
        {"manifest.json": b"[" * 60_000},
        {"manifest.json": b"\xff"},
        {"stack.yaml": b"\xff\xfe"},
        {"stack.yaml": b"- a\n"},
        {"stack.yaml": b"{" * 10_000},
        {"state.json": b"[]"},
        {"state.json": b"[" * 100_000},
        {"gateway.json": b"print(1)"},
        {"manifest.json": _special(tarfile.SYMTYPE)},
        {"stack.yaml": _special(tarfile.SYMTYPE, "stack.yaml")},
        {"state.json": _special(tarfile.FIFOTYPE, "state.json")},
        {"other": b""},
        {"../other": b""},
        {"manifest.json": json.dumps(MANIFEST).encode() + b" " * 70_000},
        {"gateway.json": ROUTES + b" " * 2**20},
    ],
)
def test_restore_refuses_parts_that_no_backup_has(
    root: Path, tmp_path: Path, parts: dict[str, Any]
) -> None:
    refused(root, packed(tmp_path / "b.tar.gz", MANIFEST, **parts))


@pytest.mark.parametrize("name", ["../x", "etc/passwd", "prometheus/../x", "prometheus/link"])
def test_restore_refuses_data_that_is_not_below_prometheus(
    root: Path, tmp_path: Path, name: str
) -> None:
    inner = tmp_path / "data.tar"
    with tarfile.open(inner, "w") as into:
        into.addfile(_special(tarfile.SYMTYPE if "link" in name else tarfile.REGTYPE, name))
    data = {"prometheus.tar": inner.read_bytes()}
    assert "not data" in refused(root, packed(tmp_path / "b.tar.gz", MANIFEST, **data)).output


def test_restore_does_not_unpack_a_bomb(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are checked first, and a header of any size is not held in memory."""
    huge = tarfile.TarInfo("prometheus.tar")
    huge.size = 2**50
    refused(root, packed(tmp_path / "a.tar.gz", MANIFEST, **{"prometheus.tar": huge}))
    with gzip.open(tmp_path / "c.tar.gz", "wb", 1) as into:
        header = tarfile.TarInfo("x")
        header.type, header.size = tarfile.XHDTYPE, 2**30
        into.write(header.tobuf())
        into.write(bytes(2**20))
    assert "header" in refused(root, tmp_path / "c.tar.gz").output
    monkeypatch.setattr(archive, "MAX_DATA_ENTRIES", 3)
    with tarfile.open(tmp_path / "data.tar", "w") as inner:
        for number in range(4):
            inner.addfile(tarfile.TarInfo(f"prometheus/{number}"))
    data = {"prometheus.tar": (tmp_path / "data.tar").read_bytes()}
    found = refused(root, packed(tmp_path / "d.tar.gz", MANIFEST, **data))
    assert "more than 3 entries" in found.output


def test_a_file_that_cannot_be_renamed_undoes_the_others(tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "new" / "second"
    first.write_text("before")

    def fails() -> None:
        with archive.written({first: b"after", second: b"x"}) as files:
            assert (first.read_bytes(), second.read_bytes()) == (b"after", b"x")
            assert not files.final
            raise OSError("the check failed")

    with pytest.raises(OSError, match="the check failed"):
        fails()
    assert first.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["first"]
    with archive.written({first: b"after", second: b"x"}) as files:
        files.keep()
    assert (first.read_bytes(), second.read_bytes()) == (b"after", b"x")
    assert second.stat().st_mode & 0o777 == 0o600


def test_backup_onto_an_existing_file_is_private_and_can_be_read_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "stacks", {"dev"})
    monkeypatch.setattr(preflight, "connect", lambda _: None)
    monkeypatch.setattr(backup_command, "prometheus_data", lambda *_: False)
    (root / "Pulumi.dev.yaml").write_text("config:\n  ape:gatewayConfig: gateway.json\n")
    (root / "gateway.json").write_bytes(ROUTES)
    file = tmp_path / "kept.tar.gz"
    file.write_bytes(b"x" * 10_000)
    file.chmod(0o644)
    try:
        result = CliRunner().invoke(app, ["backup", "-o", str(file)])
        assert result.exit_code == 0, result.output
        assert file.stat().st_mode & 0o777 == 0o600
        (tmp_path / "parts").mkdir()
        found = archive.opened(file, tmp_path / "parts", "ape")
        assert (found.manifest.stack, found.gateway) == ("dev", ROUTES)
        assert set(found.files(root)) == {root / "Pulumi.dev.yaml", root / "gateway.json"}
    finally:
        (root / "Pulumi.dev.yaml").unlink()
        (root / "gateway.json").unlink()


def test_backup_has_the_files_of_settings_that_restore_may_write_back(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "stacks", {"dev"})
    monkeypatch.setattr(preflight, "connect", lambda _: None)
    monkeypatch.setattr(backup_command, "prometheus_data", lambda *_: False)
    own = tmp_path / "own"
    own.mkdir()
    config = {
        "target": "http://shop",
        "targetGoal": "Look.",
        "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
        "targetOpenapi": "./docs/api.json",
        "users": "../users.csv",
        "gatewayConfig": "config/gateway.json",
    }
    (own / "Pulumi.dev.yaml").write_text(
        yaml.safe_dump({"config": {f"ape:{key}": value for key, value in config.items()}})
    )
    content = {
        "docs/api.json": OPENAPI,
        "../users.csv": USERS,
        "config/gateway.json": ROUTES[:-1] + b', "upload": {"file": "../photo.png"}}',
        "photo.png": b"image",
    }
    (own / "Pulumi.yaml").write_text("name: ape\nruntime: python\n")
    for name, raw in content.items():
        (own / name).parent.mkdir(exist_ok=True)
        (own / name).write_bytes(raw)
    monkeypatch.chdir(own)
    project.current.cache_clear()
    result = CliRunner().invoke(app, ["backup", "-o", "b.tar.gz"])
    project.current.cache_clear()
    assert result.exit_code == 0, result.output
    assert "The file of users is not in the backup" in result.output
    (tmp_path / "parts").mkdir()
    found = archive.opened(own / "b.tar.gz", tmp_path / "parts", "ape").files(root)
    assert {str(path.relative_to(root)): raw for path, raw in found.items()} == {
        name: raw for name, raw in content.items() if name != "../users.csv"
    } | {"Pulumi.dev.yaml": (own / "Pulumi.dev.yaml").read_bytes()}


@pytest.mark.parametrize("command", ["up", "status", "backup", "down"])
@pytest.mark.parametrize("name", ["a/b", "../up", "a b", ""])
def test_a_stack_name_that_is_a_path_is_a_sentence(command: str, name: str) -> None:
    result = CliRunner().invoke(app, [command, "--stack", name])
    assert result.exit_code == 2
    assert "is not the name of a stack" in " ".join(result.output.replace("│", "").split())
