"""The OpenAPI document of the target: fetched if it is a URL, and what is left out of it."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import requests

from ape_infra.checks.check import Check, failed
from ape_infra.checks.connection import PreflightError
from ape_infra.config import document
from ape_infra.config.errors import SettingsError
from ape_infra.config.openapi.loader import MAX_BYTES
from ape_infra.config.project import config_key
from ape_infra.config.settings import Settings

NAME = "openapi"
TIMEOUT_SECONDS = 10.0


class _FetchError(Exception):
    """The document could not be fetched. The message states the reason."""


def fetch(settings: Settings, root: Path) -> Iterator[Check]:
    """Fetch the document into the project if it is a URL. A former copy stands in for it."""
    url = settings.target.openapi
    if not settings.target.openapi_is_url:
        return
    copy = document.copy_of(url, root)
    try:
        content = _get(url)
    except _FetchError as error:
        observed = f"{url} cannot be fetched: {error}."
        if not copy.is_file():
            remedy = "Start the target, correct the URL, or set the path of a file."
            yield Check(NAME, "fail", observed, remedy)
            return
        hours = (time.time() - copy.stat().st_mtime) / 3600
        yield Check(NAME, "warn", f"{observed} Its copy of {hours:.0f} hours ago is used.")
        return
    _write(copy, content)
    yield Check(NAME, "ok", f"{url} has {len(content) / 1024:.0f} KiB.")


def _get(url: str) -> bytes:
    try:
        with requests.get(url, timeout=TIMEOUT_SECONDS, stream=True) as answer:
            if answer.status_code != 200:
                raise _FetchError(f"status {answer.status_code}")
            content = b""
            for piece in answer.iter_content(1 << 20):
                content += piece
                if len(content) > MAX_BYTES:
                    raise _FetchError(f"more than {MAX_BYTES >> 20} MiB")
            return content
    except requests.RequestException as error:
        raise _FetchError(type(error).__name__) from None


def _write(path: Path, content: bytes) -> None:
    """Write the copy whole or not at all. An equal one stays, with its time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and path.read_bytes() == content:
        os.utime(path)
        return
    handle, name = tempfile.mkstemp(dir=path.parent)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.replace(name, path)


def report(settings: Settings, root: Path, *, signs_in: bool = False) -> Iterator[Check]:
    """Yield a line for each kind of what is left out. An unusable document yields nothing:

    `checks.settings.scenario` reports that. `signs_in`: agents have the credentials of a scheme.
    """
    if not settings.target.openapi:
        return
    try:
        found = document.read(settings, root)
    except SettingsError:
        return
    key = config_key(document.SETTING)
    for line in found.report.lines():
        if line.kind in ("security", "authorization") and signs_in and not settings.target.sign_in:
            continue
        yield Check(NAME, line.level, line.text, line.remedy, key, line.details)


def check(
    settings: Settings,
    root: Path,
    *,
    on_line: Callable[[str], None],
    signs_in: Callable[[], bool] = lambda: False,
) -> list[Check]:
    """Fetch the document and report what is left out, before an update; return all of it.

    `signs_in`: as of `report`, asked when the document is there. Raises PreflightError if a URL was
    never fetched.
    """
    fetched = list(fetch(settings, root))
    if failures := failed(fetched):
        raise PreflightError(failures)
    signed = bool(settings.target.openapi) and signs_in()
    found = [*fetched, *report(settings, root, signs_in=signed)]
    for each in found:
        if each.status != "ok" or each.details:
            on_line(each.text)
    return found
