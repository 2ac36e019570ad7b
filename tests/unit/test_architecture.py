"""The structure of the code: the order of rooms and packages, the length of files and functions."""

import ast
import functools
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ape_infra

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
# Folder of product code -> the own packages that it may import, besides itself.
SHARED = {"ape_contracts", "ape_service"}
FOLDERS: dict[str, set[str]] = {
    "ape_contracts": set(),
    "services": SHARED,
    "monitoring": SHARED,
    "offline/provider": {"ape_contracts"},
    "policy": {"ape_contracts", "ape_policy"},
    "ape_infra": {"ape_contracts", "monitoring"},
}
# Folders of packages, which are not packages themselves.
PARENTS = {"services", "offline", "provider", "policy"}
# The rooms of ape_infra, from its docstring; each imports only those above it.
ROOMS = [line.split()[0] for line in (ape_infra.__doc__ or "").splitlines()[2:]]
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 60


def files(folder: str) -> Iterator[tuple[str, str]]:
    """Yield (path, content) of each Python file."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        yield file.relative_to(ROOT).as_posix(), file.read_text("utf-8")


parsed = functools.cache(ast.parse)


def imports(content: str) -> Iterator[str]:
    """Yield the full names of imported modules, and of what is imported from them."""
    for node in ast.walk(parsed(content)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def package_of(path: str) -> str:
    """Return the package of a file: the first folder that is not one of FOLDERS' parents."""
    return next(part for part in path.split("/") if part not in PARENTS)


def back_edges(path: str, content: str) -> Iterator[str]:
    """Yield the imports of a file of ape_infra that lead to a later room."""
    room = path.split("/")[1].removesuffix(".py")
    later = ROOMS[ROOMS.index(room) + 1 :] if room in ROOMS else []
    for name in imports(content):
        package, _, rest = name.partition(".")
        if package == "ape_infra" and rest.split(".")[0] in later:
            yield f"{path} imports {name}"


def too_long(path: str, content: str) -> Iterator[str]:
    """Yield a file, and the functions in it, that exceed their limit."""
    if content.count("\n") > MAX_FILE_LINES:
        yield path
    for node in ast.walk(parsed(content)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                yield f"{path}: {node.name}"


def test_rooms_import_only_rooms_above_them() -> None:
    entries = {path.split("/")[1].removesuffix(".py") for path, _ in files("ape_infra")}
    assert set(ROOMS) == entries - {"__init__", "__main__"}
    found = {edge for path, content in files("ape_infra") for edge in back_edges(path, content)}
    assert found == set()


def test_packages_import_only_what_they_may() -> None:
    packages = {package_of(path) for folder in FOLDERS for path, _ in files(folder)}
    wrong = {
        f"{path} imports {package}"
        for folder, allowed in FOLDERS.items()
        for path, content in files(folder)
        for package in {name.split(".")[0] for name in imports(content)} & packages
        if package not in allowed | {package_of(path)}
    }
    assert wrong == set()


def test_help_and_completion_import_neither_pulumi_nor_settings() -> None:
    code = (
        "import sys, ape_infra.cli; sys.exit(bool({'pulumi', 'docker', 'pydantic'} & "
        "{*sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_files_and_functions_keep_their_limit_of_lines() -> None:
    found = {
        x for folder in FOLDERS for path, content in files(folder) for x in too_long(path, content)
    }
    assert found == set()


def test_structure_checks_find_back_edges_and_long_functions() -> None:
    late = "def f():\n    from ape_infra.cli import up\n"
    assert list(back_edges("ape_infra/config/x.py", late)) == [
        "ape_infra/config/x.py imports ape_infra.cli.up"
    ]
    assert list(back_edges("ape_infra/config/x.py", "from ape_infra import cli")) != []
    assert list(back_edges("ape_infra/cli/x.py", "from ape_infra.config import group")) == []
    body = "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES
    assert list(too_long("x.py", body)) == ["x.py: f"]
    assert list(too_long("x.py", "x = 1\n" * (MAX_FILE_LINES + 1))) == ["x.py"]
