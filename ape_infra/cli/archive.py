"""The file of `ape-load backup`: what it may contain, and where its parts may be written.

A backup is somebody else's file until it is checked: its manifest, names and sizes decide nothing.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from ape_contracts import gateway_config
from ape_infra.cli.archive_places import KINDS, ArchiveError, check_place, gateway_file, place
from ape_infra.config.errors import problems_of
from ape_infra.config.project import STACK_NAME

VERSION = 1
DATA_DIR = "/prometheus"
MANIFEST, CONFIG, STATE = "manifest.json", "stack.yaml", "state.json"
GATEWAY, DATA = "gateway.json", "prometheus.tar"
_MB = 2**20
# Part -> its largest size. A state has 10 kB per container, a Swarm config at most 1 MB.
MAX_BYTES = {
    MANIFEST: _MB // 16,
    CONFIG: _MB,
    STATE: 256 * _MB,
    GATEWAY: _MB,
    DATA: 64 * 1024 * _MB,
    **{part: kind.max_bytes for part, kind in KINDS.items()},
}
REQUIRED = (MANIFEST, CONFIG, STATE)
# Files and folders of Prometheus' data: a few per block of two hours.
MAX_DATA_ENTRIES = 100_000
# A header is 512 bytes; one that names a longer path or time is a block or two more.
MAX_READ = _MB // 4
_BROKEN = (
    *(OSError, EOFError, tarfile.TarError, zlib.error),
    *(ValueError, KeyError, IndexError, RecursionError, OverflowError),
)


class Manifest(BaseModel):
    """`gateway_config`: path of the gateway's config below the project; empty: none.

    `files`: part -> path of the other files of the project.
    """

    model_config = ConfigDict(strict=True, frozen=True, hide_input_in_errors=True)

    version: int
    project: str
    stack: str = Field(pattern=rf"^(?:{STACK_NAME})$")
    created: str = Field(pattern=r"^[0-9]{8}T[0-9]{6}Z$")
    gateway_config: str | None = None
    files: dict[str, str] = {}


@dataclass(frozen=True)
class Backup:
    """A backup that was checked. `data`: a tar file of Prometheus' data, or None.

    `more`: the parts of `manifest.files`, whose places and contents are checked by `files`.
    """

    manifest: Manifest
    config: bytes
    state: dict[str, Any]
    gateway: bytes | None
    data: Path | None
    more: dict[str, bytes]

    def files(self, root: Path) -> dict[Path, bytes]:
        """The files to write below `root`. Raises ArchiveError."""
        found = {root / f"Pulumi.{self.manifest.stack}.yaml": self.config}
        if self.gateway is not None:
            found[gateway_file(root, str(self.manifest.gateway_config))] = self.gateway
        for part, content in self.more.items():
            found[place(root, part, self.manifest.files[part], content)] = content
        for path in found:
            check_place(root, path)
        return found


class _Bounded:
    """A file whose reader cannot be made to hold more than MAX_READ bytes at a time."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= MAX_READ:
            raise tarfile.ReadError(f"has a header of more than {MAX_READ} bytes")
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _entries(file: BinaryIO, most: int) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield at most `most` entries. The next one is looked for when the last one was checked."""
    with tarfile.open(fileobj=cast(Any, _Bounded(file)), mode="r:") as archive:
        for number in range(most + 1):
            entry = archive.next()
            cast(Any, archive).members = []  # Or each of them would be kept.
            if entry is None:
                return
            if number == most:
                raise ArchiveError(f"has more than {most} entries")
            yield archive, entry


def _unpack(file: Path, folder: Path) -> set[str]:
    """Unpack the parts into `folder`; returns their names. Raises ArchiveError and _BROKEN."""
    found: set[str] = set()
    free = shutil.disk_usage(folder).free
    with gzip.open(file) as raw:
        for archive, entry in _entries(cast(BinaryIO, raw), len(MAX_BYTES)):
            name = entry.name
            if name not in MAX_BYTES or name in found or not entry.isreg() or entry.issparse():
                raise ArchiveError(f"has an entry that no backup has: {name[:80]!r}")
            if not 0 <= entry.size <= MAX_BYTES[name]:
                raise ArchiveError(f"{name}: is larger than {MAX_BYTES[name] // 1024} KiB")
            if entry.size > free:
                raise ArchiveError(f"{name}: is larger than the free space at {folder}")
            part = archive.extractfile(entry)
            assert part is not None
            with part, (folder / name).open("xb") as to:
                shutil.copyfileobj(part, to, 65536)
            free -= entry.size
            found.add(name)
    if missing := [name for name in REQUIRED if name not in found]:
        raise ArchiveError(f"lacks {', '.join(missing)}")
    return found


def _check_data(file: Path) -> None:
    """Raise ArchiveError unless it has plain files and folders of Prometheus' data only."""
    top = DATA_DIR.strip("/")
    with file.open("rb") as raw:
        for _, entry in _entries(raw, MAX_DATA_ENTRIES):
            parts = PurePosixPath(entry.name).parts
            inside = parts[:1] == (top,) and ".." not in parts and "\\" not in entry.name
            plain = (entry.isreg() or entry.isdir()) and not entry.issparse()
            if not inside or not plain or entry.mode & 0o6000:
                raise ArchiveError(f"{DATA}: has an entry that is not data: {entry.name[:80]!r}")


def _manifest(text: bytes, project: str) -> Manifest:
    """Raises ArchiveError, ValueError."""
    found = json.loads(text)
    if not isinstance(found, dict):
        raise ArchiveError("manifest: is not a JSON object")
    if found.get("version") != VERSION or isinstance(found["version"], bool):
        given = json.dumps(found.get("version"))[:40]
        raise ArchiveError(f"has format {given}, and this version reads {VERSION}")
    if found.get("project") != project:
        given = json.dumps(found.get("project"))[:80]
        raise ArchiveError(f"is a backup of project {given}, and this project is {project}")
    try:
        return Manifest.model_validate(found)
    except ValidationError as error:
        at = ", ".join(sorted({path for path, _ in problems_of(error)}))
        raise ArchiveError(f"manifest: {at}: has another form than `ape-load backup` writes") from (
            None
        )


def _config(text: bytes) -> bytes:
    found = yaml.safe_load(text.decode("utf-8"))
    if not isinstance(found, dict) or not isinstance(found.get("config", {}), dict):
        raise ArchiveError(f"{CONFIG}: is not a stack config")
    return text


def _state(text: bytes) -> dict[str, Any]:
    found = json.loads(text)
    if not (
        isinstance(found, dict)
        and isinstance(found.get("version"), int)
        and isinstance(found.get("deployment"), dict)
    ):
        raise ArchiveError(f"{STATE}: is not a state of Pulumi")
    return found


def _gateway(text: bytes) -> bytes:
    try:
        gateway_config.load(text.decode("utf-8"))
    except gateway_config.GatewayConfigError:
        raise ArchiveError(f"{GATEWAY}: is not a gateway config") from None
    return text


def opened(file: Path, folder: Path, project: str) -> Backup:
    """Return the checked backup, unpacked into the empty `folder`. Raises ArchiveError."""
    try:
        found = _unpack(file, folder)
        manifest = _manifest((folder / MANIFEST).read_bytes(), project)
        if (GATEWAY in found) != bool(manifest.gateway_config):
            raise ArchiveError(f"manifest: gateway_config and the part {GATEWAY} need each other")
        if found & KINDS.keys() != manifest.files.keys():
            raise ArchiveError("manifest: files and the parts of the backup need each other")
        if DATA in found:
            _check_data(folder / DATA)
        return Backup(
            manifest,
            _config((folder / CONFIG).read_bytes()),
            _state((folder / STATE).read_bytes()),
            _gateway((folder / GATEWAY).read_bytes()) if GATEWAY in found else None,
            folder / DATA if DATA in found else None,
            {part: (folder / part).read_bytes() for part in manifest.files},
        )
    except (*_BROKEN, yaml.YAMLError) as error:
        text = re.sub(r"\s+", " ", str(error))[:200]
        raise ArchiveError(f"is not a backup ({text or type(error).__name__})") from None


def _beside(path: Path, content: bytes) -> Path:
    """A file with this content in the folder of `path`, with its mode; 0600 for a new one."""
    descriptor, name = tempfile.mkstemp(prefix=".restore-", dir=path.parent)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        os.chmod(name, path.stat().st_mode & 0o777)
    return Path(name)


class Written:
    """Files that were written together; `keep` makes them final."""

    def __init__(self) -> None:
        self.final = False

    def keep(self) -> None:
        self.final = True


@contextmanager
def written(files: Mapping[Path, bytes]) -> Iterator[Written]:
    """Write the files, all or none. An error before `keep` brings back what was there."""
    before = {path: path.read_bytes() if path.exists() else None for path in files}
    made: list[Path] = []
    state = Written()
    waiting: dict[Path, Path] = {}
    try:
        for path, content in files.items():
            for folder in reversed([f for f in path.parents if not f.exists()]):
                folder.mkdir()
                made.append(folder)
            waiting[path] = _beside(path, content)
        for path, beside in waiting.items():
            beside.replace(path)
        yield state
    except BaseException:
        for beside in waiting.values():
            beside.unlink(missing_ok=True)
        if not state.final:
            for path, content_before in before.items():
                if content_before is None:
                    path.unlink(missing_ok=True)
                elif path.read_bytes() != content_before:
                    _beside(path, content_before).replace(path)
            for folder in reversed(made):
                folder.rmdir()
        raise
