"""The file with the operations of a target: JSON, and beyond PLAIN_BYTES compressed.

A Swarm config holds at most 500 KB, and the state of a stack has every file. Documents repeat
themselves: compressed they have a tenth of their size.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from ape_contracts.operations import OperationsError

PLAIN_BYTES = 256 * 1024
MAX_FILE_BYTES = 500_000
# Of what a file becomes: no bomb fills a service's memory.
MAX_BYTES = 32 << 20


def pack(text: str) -> str:
    """Return the text of the file for `operations.encode`'s. Raises OperationsError."""
    raw = text.encode()
    packed = text if len(raw) <= PLAIN_BYTES else base64.b64encode(zlib.compress(raw, 9)).decode()
    size = len(packed.encode())
    if size > MAX_FILE_BYTES:
        raise OperationsError(
            f"has {-(-size // 1000)} KB of operations, compressed, above the maximum of "
            f"{MAX_FILE_BYTES // 1000} KB."
        )
    if len(raw) > MAX_BYTES:
        raise OperationsError(
            f"has {len(raw) >> 20} MiB of operations, above the maximum of {MAX_BYTES >> 20} MiB."
        )
    return packed


def unpack(packed: str) -> str:
    """Return the text that `pack` got. Raises OperationsError."""
    if packed.lstrip().startswith("{"):
        return packed
    try:
        inflater = zlib.decompressobj()
        raw = inflater.decompress(base64.b64decode(packed, validate=True), MAX_BYTES)
        if not inflater.eof:
            raise OperationsError(
                f"The operations are cut, or have over {MAX_BYTES >> 20} MiB. Write them again."
            )
        return raw.decode()
    except (binascii.Error, zlib.error, UnicodeError, ValueError) as error:
        raise OperationsError(
            f"The operations are neither JSON nor compressed ({error}). Write them again."
        ) from None
