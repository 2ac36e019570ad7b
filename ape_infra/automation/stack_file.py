"""The file of a stack config, as text: what it sets, without Pulumi."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from ape_infra.config.project import PROJECT_FILE, ProjectError

Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


# Stands for a value that is encrypted.
SECRET = "[secret]"


def file_of(root: Path, stack: str) -> Path:
    return root / f"Pulumi.{stack}.yaml"


def read(root: Path, stack: str) -> dict[str, str]:
    """Setting -> value in the stack config, as Pulumi passes it on. Raises ProjectError."""
    return _config(file_of(root, stack))


def is_one_text(root: Path, stack: str, key: str) -> bool:
    """Whether a list or an object is one text in the file, whose parts Pulumi cannot set."""
    found = _document(file_of(root, stack)).get("config") or {}
    values = (v for k, v in found.items() if str(k).rpartition(":")[2] == key)
    return any(isinstance(value, str) for value in values)


def of_project(root: Path) -> dict[str, str]:
    """Setting -> value or default in `Pulumi.yaml`, for all stacks. Raises ProjectError."""
    return _config(root / PROJECT_FILE)


def _config(file: Path) -> dict[str, str]:
    found = _document(file).get("config") or {}
    if not isinstance(found, Mapping):
        raise ProjectError(f"{file}: `config` is not a mapping. Correct the file.")
    return {
        str(key).rpartition(":")[2]: _text(_given(value))
        for key, value in found.items()
        if value is not None
    }


def _given(value: Any) -> Any:
    """The value of an entry, which in `Pulumi.yaml` may be a declaration with a default."""
    if isinstance(value, Mapping):
        for key in ("value", "default"):
            if "type" in value and key in value:
                return value[key]
    return value


def _document(file: Path) -> Mapping[str, Any]:
    try:
        # As C code, ten times as quick; a safe loader either way.
        found = yaml.load(file.read_bytes(), Loader=Loader)  # noqa: S506
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ProjectError(f"{file}: {error.strerror}. Make it readable.") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ProjectError(f"{file}: is not valid YAML{_place(error)}. Correct the file.") from None
    if not isinstance(found or {}, Mapping):
        raise ProjectError(f"{file}: is not a mapping with `config:`. Correct the file.")
    return found or {}


def _place(error: Exception) -> str:
    """Where the file is wrong, and the reason of the parser."""
    mark = getattr(error, "problem_mark", None)
    reason = getattr(error, "problem", None) or "it cannot be parsed"
    return f", line {mark.line + 1}: {reason}" if mark else f": {reason}"


def _text(value: Any) -> str:
    """The value as the text that Pulumi makes of it."""
    if _is_secret(value):
        return SECRET
    if isinstance(value, str):
        return value
    return json.dumps(_masked(value), ensure_ascii=False, separators=(",", ":"), default=str)


def _is_secret(value: Any) -> bool:
    return isinstance(value, Mapping) and set(value) == {"secure"}


def _masked(value: Any) -> Any:
    """A list or object without what is encrypted in it."""
    if _is_secret(value):
        return SECRET
    if isinstance(value, Mapping):
        return {str(key): _masked(item) for key, item in value.items()}
    return [_masked(item) for item in value] if isinstance(value, list) else value
