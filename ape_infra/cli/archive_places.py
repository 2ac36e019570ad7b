"""The files of a project in a backup: which it holds, and where `restore` may write them back.

Each belongs below the project, in no hidden folder, has a name of its kind, and replaces only its
like. A name in a backup is somebody else's until it is checked.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ape_contracts import gateway_config
from ape_contracts.gateway_config import MAX_UPLOAD_BYTES, GatewayConfigError
from ape_infra.config import users
from ape_infra.config.openapi import OpenApiError, loader, operations
from ape_infra.config.settings import Settings

OPENAPI, USERS, UPLOAD = "openapi", "users", "upload"
# Files that nothing but the target reads.
_UPLOADS = ".png .jpg .jpeg .gif .webp .bmp .svg .pdf .txt .csv .xml .zip .gz .bin .mp3 .mp4 .wav"


class ArchiveError(Exception):
    """The file is not a backup that this project can restore; the text states the rule."""


class Kind(NamedTuple):
    """`is_its`: whether content is of the kind; None: any is, so that none is replaced."""

    setting: str
    words: str
    suffixes: tuple[str, ...]
    max_bytes: int
    is_its: Callable[[bytes], bool] | None


def _is_openapi(content: bytes) -> bool:
    try:
        operations.checked(loader.load(content).content)
    except (OpenApiError, RecursionError):
        return False
    return True


def _is_users(content: bytes) -> bool:
    try:
        users.parse(content.decode())
    except (users.UsersError, UnicodeDecodeError):
        return False
    return True


# By the name of their part.
KINDS = {
    OPENAPI: Kind(
        "targetOpenapi",
        "an OpenAPI document",
        (".json", ".yaml", ".yml"),
        loader.MAX_BYTES,
        _is_openapi,
    ),
    USERS: Kind("users", "a users file", (".csv", ".jsonl", ".ndjson"), users.MAX_BYTES, _is_users),
    UPLOAD: Kind(
        "targetUpload", "a file to upload", tuple(_UPLOADS.split()), MAX_UPLOAD_BYTES, None
    ),
}


def named(settings: Settings, gateway: bytes | None) -> dict[str, str]:
    """Part -> path of the file that the settings or the gateway's config name."""
    target = settings.target
    found = {} if target.openapi_is_url else {OPENAPI: target.openapi}
    found[USERS] = settings.run.users
    found[UPLOAD] = (target.upload and target.upload.file) or ""
    if not found[UPLOAD] and gateway is not None:
        try:
            if file := gateway_config.load(gateway.decode()).upload.file:
                found[UPLOAD] = str(PurePosixPath(target.gateway_config).parent / file)
        except (GatewayConfigError, UnicodeDecodeError):
            pass
    return {part: posixpath.normpath(name) for part, name in found.items() if name}


def place(root: Path, part: str, name: str, content: bytes) -> Path:
    """Where this file belongs. Raises ArchiveError for any other place or content."""
    kind = KINDS[part]
    found = _inside(root, kind.setting, name, kind.suffixes)
    if len(content) > kind.max_bytes:
        raise ArchiveError(f"{kind.setting} {name}: has more than {kind.max_bytes >> 10} KiB")
    if kind.is_its is not None and not kind.is_its(content):
        raise ArchiveError(f"{kind.setting} {name}: is not {kind.words}")
    if found.exists():
        there = found.read_bytes()
        is_its = there == content if kind.is_its is None else kind.is_its(there)
        if not is_its:
            what = "has another content" if kind.is_its is None else f"is not {kind.words}"
            raise ArchiveError(f"{kind.setting} {name}: exists, and {what}. Move the file away")
    return found


def gateway_file(root: Path, name: str) -> Path:
    """Where a gateway config of this name belongs. Raises ArchiveError for any other place."""
    found = _inside(root, "gateway_config", name, (".json",))
    if found.exists():
        try:
            gateway_config.load(found.read_text("utf-8"))
        except (OSError, ValueError, GatewayConfigError):
            raise ArchiveError(
                f"gateway_config {name}: exists, and is not a gateway config. Move the file away"
            ) from None
    return found


def _inside(root: Path, setting: str, name: str, suffixes: tuple[str, ...]) -> Path:
    path = PurePosixPath(name)
    plain = name.isprintable() and "\\" not in name and path.as_posix() == name
    is_own = any(part.startswith(".") or part.lower().startswith("pulumi.") for part in path.parts)
    if not plain or not path.parts or path.is_absolute() or is_own or path.suffix not in suffixes:
        kinds = " or ".join(suffixes) if len(suffixes) < 4 else "known type of"
        raise ArchiveError(
            f"{setting} {name!r}: is not the path of a {kinds} file below the project"
        )
    found = root / path
    check_place(root, found)
    return found


def check_place(root: Path, path: Path) -> None:
    """Raise ArchiveError unless `path` is a file, or nothing yet, in folders below `root`."""
    for above in (path, *path.parents):
        if above == root:
            break
        if above.is_symlink():
            raise ArchiveError(f"{above.relative_to(root)}: is a symbolic link. Remove it")
        if above.exists() and (above.is_dir() if above == path else not above.is_dir()):
            kind = "folder" if above == path else "file"
            raise ArchiveError(f"{above.relative_to(root)}: is a {kind}. Move it away")
