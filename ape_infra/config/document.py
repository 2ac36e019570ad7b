"""The OpenAPI document of a stack, read from its file or from the copy of its URL."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from pathlib import Path

from ape_contracts.gateway_config import GatewayConfigError, Route
from ape_contracts.gateway_config import load as load_gateway_config
from ape_contracts.operations import OperationsError, encode
from ape_contracts.operations_file import pack
from ape_infra.config import openapi
from ape_infra.config.errors import SettingsError
from ape_infra.config.openapi import security
from ape_infra.config.settings import Settings
from ape_infra.config.sign_in import plain

SETTING = "targetOpenapi"
# Git ignores the folder.
COPIES = ".ape/openapi"


def copy_of(url: str, root: Path) -> Path:
    """The file with the copy of a document; `ape-load` fetches it, a preview only reads it."""
    return root / COPIES / hashlib.sha256(url.encode()).hexdigest()[:16]


def path_of(settings: Settings, root: Path) -> Path:
    target = settings.target
    return copy_of(target.openapi, root) if target.openapi_is_url else root / target.openapi


def read(settings: Settings, root: Path) -> openapi.Read:
    """Return the selected operations of the document, and what is left out.

    Raises SettingsError if the document cannot be read or has nothing that agents can call.
    """
    target, path = settings.target, path_of(settings, root)
    route = _route(settings, root)
    wanted = openapi.Wanted(
        tuple(target.include),
        tuple(target.exclude),
        # Paths are relative to it.
        route.base_url if route else target.http_url,
        tuple((method, e.path) for e in route.endpoints for method in e.methods) if route else (),
        security.carried(plain(target.sign_in), route.auth.headers if route else ()),
        bool(target.sign_in),
    )
    try:
        stat = path.stat()
        return _read(path, (stat.st_mtime_ns, stat.st_size), wanted, target.openapi_is_url)
    except OSError as error:
        line = (
            f"{path}: {error.strerror}. Set the path of a readable file, relative to the project."
        )
        if target.openapi_is_url:
            line = f"{target.openapi}: has not been fetched yet. Run `ape-load validate`."
    except openapi.OpenApiError as error:
        line = f"{target.openapi if target.openapi_is_url else path}: {error}"
    raise SettingsError.at(SETTING, line)


def operations_file(settings: Settings, root: Path) -> str | None:
    """The text of the gateway's file with the operations; None: the stack has no document.

    Raises SettingsError, also if the operations are too large for it.
    """
    if not settings.target.openapi:
        return None
    found = read(settings, root)
    try:
        return pack(encode(found.operations))
    except OperationsError as error:
        count = len(found.operations.operations)
        raise SettingsError.at(
            SETTING,
            f"{error} Select fewer of the {count} with targetInclude, such as "
            '["/orders/**", "tag:orders"], or leave some out with targetExclude.',
        ) from None


# A command reads the document for its checks, for the preview and for the update.
@functools.lru_cache(maxsize=4)
def _read(
    path: Path, stamp: tuple[int, int], wanted: openapi.Wanted, is_copy: bool
) -> openapi.Read:
    del stamp
    read_file = openapi.no_files if is_copy else _beside(path)
    return openapi.read(path.read_bytes(), path.name, wanted=wanted, read_file=read_file)


def _beside(path: Path) -> Callable[[str], bytes]:
    """Read files in the folder of the document and below; no link leads out of it."""
    folder = path.parent.resolve()

    def read_file(name: str) -> bytes:
        try:
            file = (folder / name).resolve()
            if not file.is_relative_to(folder):
                raise openapi.OpenApiError("is outside of the document's folder")
            if not file.is_file():
                raise openapi.OpenApiError("does not exist, or is not a file")
            return file.read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "is not a path"
            raise openapi.OpenApiError(f"cannot be read ({reason})") from None

    return read_file


def _route(settings: Settings, root: Path) -> Route | None:
    """The route of a gateway config that agents use; None: the stack has no such config."""
    if not settings.target.gateway_config:
        return None
    try:
        text = (root / settings.target.gateway_config).read_text("utf-8")
        return next(iter(load_gateway_config(text).routes.values()))
    except (OSError, UnicodeDecodeError, GatewayConfigError):
        # `files.gateway_config` reports it.
        return None
