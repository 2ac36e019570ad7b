"""A service's settings from its environment, and the files that they name."""

from __future__ import annotations

import os
from pathlib import Path

from ape_contracts.service_settings import VARIABLE, S, ServiceSettingsError, decode


def load(kind: type[S]) -> S:
    """The settings in the variable APE_SETTINGS. Raises ServiceSettingsError."""
    return decode(kind, os.environ.get(VARIABLE) or "{}")


def problem(name: str, sentence: object) -> ServiceSettingsError:
    """The error of setting `name`."""
    return ServiceSettingsError(f"{VARIABLE}.{name}: {sentence}")


def read_file(name: str, path: str) -> str:
    """The text of the file that setting `name` names. Raises ServiceSettingsError."""
    try:
        return Path(path).read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8 text"
        raise problem(name, f"{path}: {reason}. Name a file that can be read.") from None


def read_secret(name: str, path: str) -> str:
    """The one line of the file that setting `name` names; empty where it names none.

    Raises ServiceSettingsError.
    """
    if not path:
        return ""
    secret = read_file(name, path).strip()
    if not secret or not secret.isascii() or any(c.isspace() for c in secret):
        raise problem(name, f"{path}: must hold one key and nothing else. Correct it.")
    return secret
