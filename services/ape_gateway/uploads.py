"""The files of agents' uploads: `{"$file": {}}` in a form stands for one.

The gateway makes its content, always the same for the same name, type and size, or has it of a file
of the operator. So an upload costs a model and the network to the gateway nothing.
"""

from __future__ import annotations

import mimetypes
import struct
import zlib
from functools import lru_cache
from typing import Any

from ape_contracts.gateway_config import MAX_UPLOAD_BYTES, Upload, is_content_type
from ape_contracts.operation_request import File
from ape_gateway.errors import WireError

FILE = "$file"
_KEYS = ("name", "type", "bytes")
_MAX_NAME_CHARS = 128
_ANY = "application/octet-stream"


def is_file(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and FILE in value


class UploadSource:
    """Files as the config's `upload` has them; `content`: of its `file`, None without one."""

    def __init__(self, upload: Upload, content: bytes | None = None) -> None:
        self._content = content
        name = upload.file.rpartition("/")[2]
        guessed = mimetypes.guess_type(name)[0] or _ANY if content is not None else "image/png"
        self._type = upload.content_type or guessed
        self._name = name
        self._size = upload.size if content is None else len(content)

    def size(self, given: Any, key: str) -> int:
        """The size of a file. Raises WireError if `given`, of a caller, is not valid."""
        where = f"{key}.{FILE}"
        if not isinstance(given, dict) or not set(given) <= set(_KEYS):
            raise WireError(f"{where}: must be an object with at most {', '.join(_KEYS)}.")
        name, kind, size = given.get("name"), given.get("type"), given.get("bytes")
        if name is not None and (not isinstance(name, str) or len(name) > _MAX_NAME_CHARS):
            raise WireError(f"{where}.name: must be a text of {_MAX_NAME_CHARS} at most.")
        if kind is not None and not (isinstance(kind, str) and is_content_type(kind)):
            raise WireError(f"{where}.type: is not a content type such as image/png.")
        if size is None:
            return self._size
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_UPLOAD_BYTES:
            raise WireError(f"{where}.bytes: must be a number from 0 to {MAX_UPLOAD_BYTES}.")
        return size

    def made(self, given: dict[str, Any], wanted: str = "") -> File:
        """The file of a value that `size` has checked; `wanted`: the type for its place."""
        own = self._content
        kind = given.get("type") or (own is None and wanted) or self._type
        name = given.get("name") or self._name
        asked = given.get("bytes")
        size = self._size if asked is None else asked
        if own is None:
            content = generated(kind, size)
        else:
            content = own if size == len(own) else (own * (size // (len(own) or 1) + 1))[:size]
        return File(content, name or f"upload{mimetypes.guess_extension(kind) or '.bin'}", kind)


@lru_cache(maxsize=4)
def generated(content_type: str, size: int) -> bytes:
    """`size` bytes that begin as a file of that type does."""
    plain = content_type.partition(";")[0].strip().lower()
    begin = _BEGINNINGS.get(plain, b"")
    line = b"Line of a generated file.\n" if plain.startswith("text/") else bytes(range(256))
    return (begin + line * (size // len(line) + 1))[:size]


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


# Readers of images ignore bytes after the end.
_BEGINNINGS = {
    "image/png": b"\x89PNG\r\n\x1a\n"
    + _chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))
    + _chunk(b"IDAT", zlib.compress(b"\0\x80"))
    + _chunk(b"IEND", b""),
    "image/gif": b"GIF89a\x01\0\x01\0\x80\0\0\0\0\0\xff\xff\xff"
    b",\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;",
    "image/jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0",
    "application/pdf": b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n",
    "application/zip": b"PK\x05\x06" + bytes(18),
}
