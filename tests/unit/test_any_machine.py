"""What lets the project be set up on other machines: its locks and the commands of its scripts."""

import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
PIN = re.compile(r"^([a-z0-9-]+)==([^ ]+)", re.M)
PROGRAM = ("ape_contracts", "ape_infra", "monitoring", "policy", "offline/provider")
OWN = {"ape_contracts", "ape_infra", "ape_policy", "ape_docker_provider", "ape_service"}
# What Linux has and macOS has not, or has with other options. A pattern, and what to use.
NOT_PORTABLE = {
    r"(?<!-)\btimeout [0-9-]": "within (offline/common.sh)",
    r"\bsed (-[a-zA-Z]*i|--in-place)": "sed to a new file, and mv",
    r"\bsed [^|]*\\t": "awk",
    r"\breadlink -[fem]": "cd and pwd, or cp -L",
    r"\brealpath\b": "cd and pwd",
    r"\bstat (-c|--format|-f)": "wc -c, or ls",
    r"\bdate (-d|--date|-I|\+%N|.*%N)": "python3",
    r"\bmktemp .*(--tmpdir|--suffix|-p )": "mktemp -d FOLDER/NAME.XXXXXX",
    r"\binstall -D": "mkdir -p and cp",
    r"\bgrep -[a-zA-Z]*P": "grep -E",
    r"\b(xargs -[a-zA-Z]*r|xargs -d)": "a loop",
    r"\bhead -[nc] -": "python3",
    r"\b(mapfile|readarray|declare -A)\b": "a loop: Bash 3.2 has it not",
    r"\bcp .*--": "cp -R or cp -L",
    r"\b(tac|nproc|getent|numfmt) ": "python3",
}


def scripts() -> list[Path]:
    found = [*(ROOT / "offline").glob("*.sh"), *(ROOT / "scripts").glob("*.sh")]
    starts = [ROOT / "offline/language-host/pulumi-language-python", ROOT / ".ci/run"]
    return [*found, *starts, ROOT / "Makefile"]


def pins(name: str) -> dict[str, str]:
    return dict(PIN.findall((ROOT / name).read_text()))


@pytest.mark.parametrize("script", scripts(), ids=lambda path: path.name)
def test_a_script_uses_no_command_that_only_linux_has(script: Path) -> None:
    for number, line in enumerate(script.read_text().splitlines(), 1):
        if line.lstrip().startswith("#"):
            continue
        for pattern, instead in NOT_PORTABLE.items():
            assert not re.search(pattern, line), f"{script.name}:{number}: use {instead}"


def test_the_tests_lock_has_the_program_at_the_same_versions() -> None:
    program, tests = pins("requirements.lock"), pins("requirements-tests.lock")
    assert program.items() <= tests.items()
    assert not {"pytest", "mypy", "ruff", "httpbin", "hypothesis"} & program.keys()
    assert "greenlet" not in tests, "its version for httpbin has no wheel for Python 3.12"


def test_every_pin_has_hashes() -> None:
    for name in ("requirements.lock", "requirements-tests.lock"):
        text = (ROOT / name).read_text()
        for entry in re.split(r"\n(?=[a-z])", text):
            assert "--hash=sha256:" in entry, entry.splitlines()[0]


def test_the_program_imports_only_packages_of_its_lock() -> None:
    imported = set()
    for folder in PROGRAM:
        for file in (ROOT / folder).rglob("*.py"):
            imported |= set(re.findall(r"^ *(?:from|import) (\w+)", file.read_text(), re.M))
    locked, known = pins("requirements.lock"), packages_distributions()
    outside = {
        name
        for name in imported & known.keys() - set(sys.stdlib_module_names) - OWN
        if not any(re.sub("[-_.]+", "-", d).lower() in locked for d in known[name])
    }
    assert outside - {"agentic_protocol_engine", "monitoring"} == set()


def test_pinned_checksums_of_pulumi_are_of_its_version_and_of_every_platform() -> None:
    text = (ROOT / "offline/pulumi.sums").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    version = re.search("PULUMI_VERSION=(.*)", (ROOT / "offline/common.sh").read_text())
    assert version
    platforms = ("linux-x64", "linux-arm64", "darwin-x64", "darwin-arm64")
    wanted = {f"pulumi-v{version[1]}-{each}.tar.gz" for each in platforms}
    assert {line.split("  ")[1] for line in lines} in (set(), wanted)
    assert all(re.match("[0-9a-f]{64}  ", line) for line in lines)
