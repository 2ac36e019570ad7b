"""The user's Pulumi project: its folder and its name."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import yaml

# The folder of this package and of the services' sources.
SOURCE_ROOT = Path(__file__).resolve().parents[2]
PROJECT_FILE = "Pulumi.yaml"
# As Pulumi accepts them: no slash, so that a name is never a path.
STACK_NAME = "[A-Za-z0-9_.-]{1,100}"


class ProjectError(Exception):
    """The project's file cannot be used; the text states the reason."""


@dataclass(frozen=True)
class Project:
    """`name` is also the namespace of the stack config; `root` is the folder of `Pulumi.yaml`."""

    name: str
    root: Path


def find(start: Path) -> Project:
    """The project of `start` or of the nearest folder above it; without one, this repository's."""
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return Project(_name(folder), folder)
    return Project(_name(SOURCE_ROOT), SOURCE_ROOT)


def _name(folder: Path) -> str:
    """Raises ProjectError."""
    file = folder / PROJECT_FILE
    try:
        found = yaml.safe_load(file.read_text("utf-8"))
        return str(found["name"])
    except OSError as error:
        reason = error.strerror or "cannot be read"
    except UnicodeDecodeError:
        reason = "is not UTF-8 text"
    except (yaml.YAMLError, ValueError, TypeError, KeyError, RecursionError):
        reason = "is not a Pulumi project with a name"
    raise ProjectError(f"{file}: {reason}. Correct the file.")


@functools.cache
def current() -> Project:
    """The project of the working directory, looked up once per process."""
    return find(Path.cwd())


def config_key(setting: str) -> str:
    """The setting as the stack config names it, such as ape:agents."""
    return f"{current().name}:{setting}"
