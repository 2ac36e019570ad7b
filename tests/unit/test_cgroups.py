"""Memory from cgroup files, of both versions and both drivers."""

from pathlib import Path

import pytest

from ape_infra.reporting.cgroups import memory

pytestmark = pytest.mark.unit


def tree(root: Path, folder: str, usage: str, limit: str, most: str, inactive: str) -> None:
    at = root / folder
    at.mkdir(parents=True)
    (at / usage).write_text("100\n")
    (at / limit).write_text(f"{most}\n")
    (at / "memory.stat").write_text(f"cache 50\n{inactive} 40\n")


V1 = ("memory.usage_in_bytes", "memory.limit_in_bytes")
V2 = ("memory.current", "memory.max")


@pytest.mark.parametrize(
    ("folder", "files", "inactive"),
    [
        ("docker/abc", V2, "inactive_file"),
        ("system.slice/docker-abc.scope", V2, "inactive_file"),
        ("memory/docker/abc", V1, "total_inactive_file"),
        ("memory/system.slice/docker-abc.scope", V1, "total_inactive_file"),
    ],
)
def test_the_working_set_leaves_the_page_cache_out(
    tmp_path: Path, folder: str, files: tuple[str, str], inactive: str
) -> None:
    tree(tmp_path, folder, *files, "200", inactive)
    assert memory("abc", tmp_path) == (60, 200)


def test_without_a_limit_or_elsewhere_there_is_nothing_to_say(tmp_path: Path) -> None:
    tree(tmp_path, "docker/abc", *V2, "max", "inactive_file")
    assert memory("abc", tmp_path) is None
    assert memory("def", tmp_path) is None
