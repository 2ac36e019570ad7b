"""OpenAPI documents: 2.0, and 3.0 to 3.2, in JSON or YAML 1.2. Pure: reads no file of its own."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass, field

from ape_contracts.operations import Operations
from ape_infra.config.openapi import loader, operations
from ape_infra.config.openapi.errors import OpenApiError
from ape_infra.config.openapi.operations import Paths, Wanted
from ape_infra.config.openapi.references import ReadFile, References, no_files
from ape_infra.config.openapi.report import Line, Report

__all__ = ["Line", "OpenApiError", "Read", "Report", "Wanted", "no_files", "read"]


@dataclass
class Read:
    """A document that was read: its operations as agents call them, and what is left out.

    `paths`: by the id of an operation, the paths by which selectors name it.
    """

    operations: Operations
    report: Report = field(default_factory=Report)
    paths: Paths = field(default_factory=dict)


def read(
    raw: bytes,
    name: str = "openapi.json",
    *,
    wanted: Wanted | None = None,
    read_file: ReadFile = no_files,
) -> Read:
    """Return what a document describes. Raises OpenApiError.

    `read_file` reads the files beside it that references name.
    """
    with _without_collections():
        return _read(raw, name, wanted or Wanted(), read_file)


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Pause the garbage collector, which takes half of the time of a document of 16 MB."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _read(raw: bytes, name: str, wanted: Wanted, read_file: ReadFile) -> Read:
    report = Report()
    loaded = loader.load(raw, is_json=name.endswith(".json"))
    for key in loaded.duplicates:
        report.add("duplicate", key)
    references = References(loaded.content, name, read_file)
    try:
        found, paths = operations.read(references, wanted, report)
    except RecursionError:
        raise OpenApiError("is nested too deeply. Cut it down.") from None
    return Read(found, report, paths)
