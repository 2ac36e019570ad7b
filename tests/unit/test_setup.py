"""Setup: errors where something is missing, and whose Pulumi is used. The real scripts run."""

import hashlib
import io
import platform
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
TOOLS = (
    "bash env cat cut dirname mkdir head tail sha256sum base64 chmod mv rm grep sed seq sleep id"
)
TOOLS += " python3 tr uname mktemp tar gzip date"
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
    shutil.copy(ROOT / "requirements-tests.lock", project)
    ape = project / ".ape"
    for folder in (path, ape / "venv/bin", ape / "stamps"):
        folder.mkdir(parents=True)
    done = [Path(file).read_bytes() for file in (project / "offline/pip.lock", *locked)]
    digest = hashlib.sha256(b"".join(done)).hexdigest()
    (ape / "stamps/venv").write_text(digest + "\n")
    (ape / "venv/bin/ape-load").write_text(f"#!{ape}/venv/bin/python3\n")
    (ape / "venv/bin/python").symlink_to("/bin/true")
    for tool in TOOLS.split():
        (path / tool).symlink_to(shutil.which(tool) or f"/no/{tool}")

    # No test reaches the network.
    (path / "curl").write_text("#!/bin/sh\necho 'curl: (6) Could not resolve host' >&2\nexit 6\n")
    (path / "curl").chmod(0o755)

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


def test_no_module_under_the_agpl_is_built() -> None:
    built = {file: file.read_text() for file in (ROOT / "offline").glob("*/go.mod")}
    assert built
    modules = {word for text in built.values() for word in text.split()}
    agpl = re.compile(r"github\.com/grafana/(loki|grafana|mimir|tempo|pyroscope)(/|$)")
    assert [name for name in modules if agpl.match(name)] == []


def test_an_old_python_is_refused(run: Run) -> None:
    code, said = run("setup.sh", "--no-docker", python3="exit 1")
    assert code == 1
    assert "Python 3.11 or later is needed" in said


def test_without_pulumi_and_go_the_way_out_is_named(run: Run) -> None:
    code, said = run("setup.sh", "--no-docker")
    assert code == 1
    assert "neither Pulumi nor Go 1.26, which could build it, is installed. Install one" in said


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
    assert "neither is apt-get, which could install it. Install Docker" in said


def release(tmp_path: Path) -> tuple[str, str]:
    """A fake `curl` that serves an archive of Pulumi's release; also its name and checksum."""
    folder = tmp_path / "release"
    folder.mkdir()
    with tarfile.open(folder / "archive", "w:gz") as archive:
        for name in ("pulumi", "pulumi-language-python"):
            text = b"#!/bin/sh\necho v0\n"
            info = tarfile.TarInfo(f"pulumi/{name}")
            info.size, info.mode = len(text), 0o755
            archive.addfile(info, io.BytesIO(text))
    version = re.search("PULUMI_VERSION=(.*)", (ROOT / "offline/common.sh").read_text())
    assert version
    machine = {"x86_64": "x64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    name = f"pulumi-v{version[1]}-{platform.system().lower()}-{machine}.tar.gz"
    digest = hashlib.sha256((folder / "archive").read_bytes()).hexdigest()
    (folder / "sums").write_text(f"{digest}  {name}\n")
    curl = f"""
while [ $# -gt 1 ]; do [ "$1" != -o ] || to=$2; shift; done
echo "$1" >>{folder}/asked
case $1 in
*{name}) cat {folder}/archive >"$to" ;;
*-checksums.txt) cat {folder}/sums >"$to" ;;
*) echo "curl: (6) Could not resolve host: ${{1#https://}}" >&2; exit 6 ;;
esac"""
    return curl, f"{digest}  {name}"


def test_pulumi_is_downloaded_and_compared_with_its_checksum(run: Run, tmp_path: Path) -> None:
    curl, line = release(tmp_path)
    binary = tmp_path / "project/.ape/bin/pulumi"
    _, said = run("setup.sh", "--no-docker", curl=curl)
    assert ": downloaded" in said
    assert binary.stat().st_mode & 0o111
    asked = (tmp_path / "release/asked").read_text()
    assert asked.count("checksums.txt") == 1
    # A pinned checksum needs no list, and is not overruled by one.
    binary.unlink()
    sums = tmp_path / "project/offline/pulumi.sums"
    sums.write_text(f"# Pins\n{line}\n")
    _, said = run("setup.sh", "--no-docker")
    assert ": downloaded" in said
    assert (tmp_path / "release/asked").read_text().count("checksums.txt") == 1
    binary.unlink()
    sums.write_text("0" * 64 + line[64:] + "\n")
    code, said = run("setup.sh", "--no-docker")
    assert code == 1
    assert f"is {line[:64]}, not {'0' * 64}" in said
    assert "neither Pulumi nor Go 1.26" in said
    assert not binary.exists()


PLUGIN = """
case "$1 $2" in
version*) echo v0 ;;
"plugin install")
  to=$PULUMI_HOME/plugins/resource-docker-v$5; mkdir -p "$to"
  case "$*" in
  *--file*) cat "$APE_SETUP/plugin/pulumi-resource-docker" >"$to/pulumi-resource-docker" ;;
  *) echo published >"$to/pulumi-resource-docker" ;;
  esac
  chmod 755 "$to/pulumi-resource-docker" ;;
esac"""


def test_a_stand_in_of_the_plugin_is_replaced_once_the_download_works(
    run: Run, tmp_path: Path
) -> None:
    stubs = {"pulumi": PLUGIN, "pulumi-language-python": "true", "id": "echo"}
    code, said = run("setup.sh", "--no-docker", **stubs)
    assert code == 0, said
    assert re.search(r"downloaded \(\d\d:\d\d:\d\d curl: \(6\) Could not resolve host\)", said)
    [plugin] = (tmp_path / "project/.ape/pulumi/plugins").rglob("pulumi-resource-docker")
    assert plugin.read_text().startswith("#!")
    code, said = run("setup.sh", "--no-docker")
    assert "Could not resolve host" in said
    code, said = run("setup.sh", "--no-docker", curl="exit 0")
    assert (code, plugin.read_text()) == (0, "published\n")
    assert "Plugin: pulumi-docker 5.2.0\n" in said


def test_the_tests_packages_are_installed_on_request_and_with_uv_where_it_works(
    run: Run, tmp_path: Path
) -> None:
    done = tmp_path / "asked"
    python = tmp_path / "project/.ape/venv/bin/python"
    python.unlink()
    python.write_text(f'#!/bin/sh\necho "pip $*" >>{done}\n')
    python.chmod(0o755)
    run("setup.sh", "--no-docker", uv=f'echo "uv $*" >>{done}; exit 1')
    assert not done.exists()
    run("setup.sh", "--no-docker", "--tests")
    asked = done.read_text().splitlines()
    assert [line.split()[0] for line in asked] == ["uv", "pip"]
    for line in asked:
        assert "--require-hashes --no-deps" in line
        assert line.endswith(f"-r {tmp_path}/project/requirements-tests.lock")
    run("setup.sh", "--no-docker", "--tests")
    assert done.read_text().splitlines() == asked, "they are not installed again"


Environment = Callable[..., dict[str, str]]


@pytest.fixture
def environment(run: Run, tmp_path: Path) -> Environment:
    """The variables of a program that .ape/run starts, with `given` set by the user."""
    # Without the name of an account, its home is HOME.
    code, _ = run("setup.sh", "--no-docker", id="echo")
    assert code == 1, "it ends where Pulumi is missing"

    def call(**given: str) -> dict[str, str]:
        done = subprocess.run(
            [tmp_path / "project/.ape/run", "env", "-0"],
            env={"PATH": f"{tmp_path}/bin", "HOME": f"{tmp_path}", **given},
            capture_output=True,
            text=True,
            check=True,
        )
        return dict(line.split("=", 1) for line in done.stdout.split("\0") if line)

    return call


def log_in(home: Path, current: str = "https://api.pulumi.com") -> None:
    home.mkdir(exist_ok=True)
    (home / "credentials.json").write_text(f'{{\n    "current": "{current}"\n}}\n')


OWN = ("PULUMI_HOME", "PULUMI_BACKEND_URL", "PULUMI_CONFIG_PASSPHRASE_FILE")


def test_without_a_login_state_and_passphrase_are_in_the_project(
    environment: Environment, tmp_path: Path
) -> None:
    ape, found = tmp_path / "project/.ape", environment()
    assert [found[name] for name in OWN] == [
        f"{ape}/pulumi",
        f"file://{ape}/state",
        f"{ape}/passphrase",
    ]
    assert found["PATH"].startswith(f"{ape}/bin:{ape}/venv/bin:")
    assert (ape / "passphrase").stat().st_mode & 0o077 == 0


def test_a_logged_in_user_keeps_home_backend_and_passphrase(
    environment: Environment, tmp_path: Path
) -> None:
    log_in(tmp_path / ".pulumi")
    assert not set(OWN) & environment().keys()


def test_a_login_in_pulumi_home_is_kept(environment: Environment, tmp_path: Path) -> None:
    log_in(tmp_path / "own")
    found = environment(PULUMI_HOME=f"{tmp_path}/own")
    assert found["PULUMI_HOME"] == f"{tmp_path}/own"
    assert not set(OWN[1:]) & found.keys()


def test_whoever_is_logged_in_stays_so(environment: Environment, tmp_path: Path) -> None:
    home, ape = tmp_path / ".pulumi", tmp_path / "project/.ape"
    for current in ("s3://states", "file:///home/ada/states", "file://~"):
        log_in(home, current)
        assert not set(OWN) & environment().keys(), current
    shutil.rmtree(home)
    (tmp_path / "own").mkdir()
    (tmp_path / "own/credentials.json").write_text('{"accessTokens":{},"current":"gs://states"}')
    assert not set(OWN) & environment(PULUMI_CREDENTIALS_PATH=f"{tmp_path}/own").keys()
    log_in(ape / "pulumi", "s3://with-the-projects-pulumi")
    found = environment()
    assert found["PULUMI_HOME"] == f"{ape}/pulumi"
    assert not set(OWN[1:]) & found.keys()
    shutil.rmtree(ape / "pulumi")
    (tmp_path / "project/Pulumi.yaml").write_text("name: ape\nbackend:\n  url: s3://states\n")
    assert not set(OWN[1:]) & environment().keys()


def test_credentials_without_a_login_change_nothing(
    environment: Environment, tmp_path: Path
) -> None:
    ape = tmp_path / "project/.ape"
    (tmp_path / ".pulumi").mkdir()
    for text in ("", "{}", '{"current": ""}', '{"accounts": {"https://a.b": {}}}', "[]"):
        (tmp_path / ".pulumi/credentials.json").write_text(text)
        assert environment()["PULUMI_BACKEND_URL"] == f"file://{ape}/state", text
    # Such a login names the project's own state.
    log_in(ape / "pulumi", f"file://{ape}/state")
    assert environment()["PULUMI_CONFIG_PASSPHRASE_FILE"] == f"{ape}/passphrase"


@pytest.mark.parametrize(
    "given", [{"PULUMI_BACKEND_URL": "s3://states"}, {"PULUMI_ACCESS_TOKEN": "pul-1"}]
)
def test_a_chosen_backend_is_kept_and_gets_no_passphrase_of_the_project(
    environment: Environment, given: dict[str, str]
) -> None:
    found = environment(**given)
    assert found.get("PULUMI_BACKEND_URL") == given.get("PULUMI_BACKEND_URL")
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in found


def test_a_chosen_passphrase_is_kept(environment: Environment) -> None:
    assert "PULUMI_CONFIG_PASSPHRASE_FILE" not in environment(PULUMI_CONFIG_PASSPHRASE="")
    found = environment(PULUMI_CONFIG_PASSPHRASE_FILE="/secret")
    assert found["PULUMI_CONFIG_PASSPHRASE_FILE"] == "/secret"


@pytest.mark.parametrize("nested", ["", "src/deep"])
@pytest.mark.parametrize(
    ("line", "venv"),
    [
        ("virtualenv: .ape/venv", ".ape/venv"),
        ("virtualenv: '.ape/venv' # made by make setup", ".ape/venv"),
        ('virtualenv: "{root}/.ape/venv"', "{root}/.ape/venv"),
        ("virtualenv: missing", None),
        ("toolchain: pip", None),
    ],
)
def test_the_language_host_gets_the_virtual_environment_of_the_project(
    line: str, venv: str | None, nested: str, tmp_path: Path
) -> None:
    root, binaries = tmp_path / "project", tmp_path / "bin"
    for folder in (root / ".ape/venv/bin", root / "src/deep", binaries, tmp_path / "user"):
        folder.mkdir(parents=True)
    (root / ".ape/venv/bin/python").symlink_to("/bin/true")
    (root / "Pulumi.yaml").write_text(
        "name: x\nruntime:\n  name: python\n  options:\n    " + line.format(root=root) + "\n"
    )
    wrapper = shutil.copy(ROOT / "offline/language-host/pulumi-language-python", binaries)
    host = binaries / "pulumi-language-python-host"
    host.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    host.chmod(0o755)
    # As a user has it on PATH.
    (tmp_path / "user/pulumi-language-python").symlink_to(wrapper)
    done = subprocess.run(
        [tmp_path / "user/pulumi-language-python", "127.0.0.1:7"],
        cwd=root / nested,
        capture_output=True,
        text=True,
        check=True,
    )
    options = ["-root", str(root), "-virtualenv", venv.format(root=root)] if venv else []
    assert done.stdout.split() == [*options, "127.0.0.1:7"]
