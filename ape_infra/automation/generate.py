"""`make generate`: write every file that is generated from the code.

python -m ape_infra.automation.generate           # write
python -m ape_infra.automation.generate --check   # exit code 1 where a file differs
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path

from ape_infra.config import reference
from ape_infra.config.project import SOURCE_ROOT
from ape_infra.observability.metrics_page import metrics_page
from ape_infra.planning.services import BUILT_SERVICES, DOCKERFILES, dockerignore

PULUMI_YAML = Path("Pulumi.yaml")
SETTINGS_PAGE = Path("docs/reference/settings.md")
THRESHOLDS_PAGE = Path("docs/reference/thresholds.md")
METRICS_PAGE = Path("docs/reference/metrics.md")
COMMANDS_PAGE = Path("docs/reference/commands.md")
# Named, as no package imports a later one: the page comes from the commands themselves.
COMMANDS = "ape_infra.cli.reference"


def texts(root: Path) -> dict[Path, str]:
    """Every generated file, relative to `root`, with the text it should have."""
    return {
        PULUMI_YAML: reference.pulumi_yaml((root / PULUMI_YAML).read_text()),
        SETTINGS_PAGE: reference.settings_page(),
        THRESHOLDS_PAGE: reference.thresholds_page(),
        METRICS_PAGE: metrics_page(),
        COMMANDS_PAGE: importlib.import_module(COMMANDS).commands_page(),
        **{
            DOCKERFILES / f"{service}.Dockerfile.dockerignore": dockerignore(service)
            for service in BUILT_SERVICES
        },
    }


def links() -> dict[Path, str]:
    """Every generated symbolic link, with what it points to."""
    return {DOCKERFILES / f"{service}.Dockerfile": "Dockerfile" for service in BUILT_SERVICES}


def stale(root: Path) -> list[Path]:
    """The generated files below `root` that are missing or differ."""
    found = []
    for path, text in texts(root).items():
        file = root / path
        if not file.is_file() or file.read_text() != text:
            found.append(path)
    for path, pointee in links().items():
        file = root / path
        if not file.is_symlink() or str(file.readlink()) != pointee:
            found.append(path)
    return found


def write(root: Path) -> list[Path]:
    """Write the stale files; returns them."""
    found, written, linked = stale(root), texts(root), links()
    for path in found:
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if path in linked:
            file.unlink(missing_ok=True)
            file.symlink_to(linked[path])
        else:
            file.write_text(written[path])
    return found


def main(arguments: Sequence[str]) -> int:
    """The command. Exit code 1: with --check, a file is out of date."""
    if "--check" in arguments:
        found = stale(SOURCE_ROOT)
        for path in found:
            print(f"{path} is out of date. Run: make generate")
        return int(bool(found))
    for path in write(SOURCE_ROOT):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
