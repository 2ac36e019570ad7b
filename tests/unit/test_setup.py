"""What the set-up says where something is missing: the real scripts, on a PATH of the test."""

import hashlib
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "bash env cat cut dirname mkdir head tail sha256sum base64 chmod mv rm grep sed seq sleep id"
)
TOOLS += " timeout python3"
Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a script of offline/ in a checkout whose virtual environment is done.

    `stubs` are programs on PATH beside the basic tools: name -> shell text.
    """
    project, path = tmp_path / "project", tmp_path / "bin"
    shutil.copytree(
        ROOT / "offline", project / "offline", ignore=shutil.ignore_patterns("provider")
    )
    locked = [shutil.copy(ROOT / name, project) for name in ("requirements.lock", "pyproject.toml")]
    ape = project / ".ape"
    for folder in (path, ape / "venv/bin", ape / "stamps"):
        folder.mkdir(parents=True)
    done = [Path(file).read_bytes() for file in (project / "offline/pip.lock", *locked)]
    digest = hashlib.sha256(b"".join(done)).hexdigest()
    (ape / "stamps/venv").write_text(digest + "\n")
    (ape / "venv/bin/pytest").write_text(f"#!{ape}/venv/bin/python3\n")
    (ape / "venv/bin/python").symlink_to("/bin/true")
    for tool in TOOLS.split():
        (path / tool).symlink_to(shutil.which(tool) or f"/no/{tool}")

    def call(script: str, *args: str, **stubs: str) -> tuple[int, str]:
        for name, text in stubs.items():
            (path / name).unlink(missing_ok=True)
            (path / name).write_text(f"#!/bin/sh\n{text}\n")
            (path / name).chmod(0o755)
        found = subprocess.run(
            ["bash", str(project / "offline" / script), *args],
            env={"PATH": str(path), "HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            timeout=300,
        )
        return found.returncode, found.stderr

    return call


def test_an_old_python_is_refused(run: Run) -> None:
    code, said = run("setup.sh", "--no-docker", python3="exit 1")
    assert code == 1
    assert "Python 3.11 or later is needed" in said


def test_without_pulumi_and_go_the_way_out_is_named(run: Run) -> None:
    code, said = run("setup.sh", "--no-docker")
    assert code == 1
    assert "no Pulumi here, and no Go 1.26 to build it with. Install one" in said


def test_an_old_go_is_refused_in_its_own_words(run: Run) -> None:
    code, said = run("setup.sh", "--no-docker", go="echo go.mod requires go 1.26 >&2; exit 1")
    assert code == 1
    assert "Go 1.26 or later is needed to build Pulumi: go.mod requires go 1.26" in said


def test_without_docker_and_root_the_way_out_is_named(run: Run) -> None:
    code, said = run("docker.sh", "up", id="echo 1000")
    assert code == 1
    assert "only root can start one. Start Docker" in said


def test_without_docker_and_apt_the_way_out_is_named(run: Run) -> None:
    code, said = run("docker.sh", "up", id="echo 0")
    assert code == 1
    assert "no Docker here, and no apt-get to install it with. Install Docker" in said
