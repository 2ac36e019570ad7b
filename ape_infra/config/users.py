"""The users file of a run: rows whose columns stand for {column} in goals and requests. Pure.

CSV with a header, or JSON lines: an object of texts, numbers, true or false per line. No error
shows a value of a row, since it may be a secret.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ape_contracts.text import plain

MAX_ROWS, MAX_COLUMNS, MAX_VALUE_CHARACTERS = 100_000, 100, 4000
# Of a file; the document of a run is smaller.
MAX_BYTES = 32 << 20
_COLUMN = re.compile(r"[A-Za-z0-9_]{1,64}")
# They cannot be sent as UTF-8.
_SURROGATE = re.compile("[\ud800-\udfff]")
# Texts of every session that the agents fill in themselves.
RESERVED = ("agent", "slot", "session")


class UsersError(Exception):
    """A users file breaks a rule; the message has the line, the rule and the remedy."""


@dataclass(frozen=True)
class Users:
    """Each row has a value for each column, and at least one that is not empty."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def parse(text: str) -> Users:
    """Return the users of a file's text. Raises UsersError."""
    text = text.removeprefix("\ufeff")
    head = text.lstrip()[:1]
    if head == "[":
        raise UsersError("line 1: begins a JSON list. Write an object per line, or CSV.")
    columns, rows = _json_lines(text) if head == "{" else _csv(text)
    if not rows:
        raise UsersError("has no row. Write a row per user, in CSV below a header.")
    if len(rows) > MAX_ROWS:
        raise UsersError(f"has {len(rows)} rows, above the maximum of {MAX_ROWS}. Remove some.")
    return Users(columns, tuple(rows))


def _columns(names: list[str], line: int) -> tuple[str, ...]:
    if len(names) > MAX_COLUMNS:
        raise UsersError(f"line {line}: has more than {MAX_COLUMNS} columns. Remove some.")
    for at, name in enumerate(names, start=1):
        # A file without a header has values here.
        if not _COLUMN.fullmatch(name):
            raise UsersError(
                f"line {line}: column {at} does not have a name of 1 to 64 letters, digits or _. "
                "Begin the file with a header such as name,password."
            )
        if name in RESERVED:
            raise UsersError(
                f"line {line}: column {name} has the name of a value that each session has. "
                "Rename it."
            )
        if name in names[: at - 1]:
            raise UsersError(f"line {line}: column {at} is a second {name}. Rename one of them.")
    return tuple(names)


def _csv(text: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    empty = 0
    try:
        for row in reader:
            if not any(value.strip() for value in row):
                empty = empty or reader.line_num
                # Lines without anything may end a file.
                if len(row) <= 1:
                    continue
            if empty:
                break
            if columns:
                rows.append(_row(columns, row, reader.line_num))
            else:
                columns = _columns([name.strip() for name in row], reader.line_num)
        else:
            return columns, rows
    except csv.Error as error:
        raise UsersError(
            f"line {reader.line_num}: is not CSV ({plain(error)}). Correct its quotes."
        ) from None
    raise UsersError(f"line {empty}: is an empty row. Remove it, or fill it in.")


def _row(columns: tuple[str, ...], row: list[str], line: int) -> tuple[str, ...]:
    if len(row) < len(columns):
        raise UsersError(f"line {line}: lacks column {columns[len(row)]}. Add it.")
    if len(row) > len(columns):
        raise UsersError(
            f"line {line}: has {len(row)} values for {len(columns)} columns. Put values with "
            "commas into quotes, or name the column in the header."
        )
    for name, value in zip(columns, row, strict=True):
        if len(value) > MAX_VALUE_CHARACTERS:
            raise UsersError(
                f"line {line}: {name} has more than {MAX_VALUE_CHARACTERS} characters. Shorten it."
            )
        if _SURROGATE.search(value):
            raise UsersError(f"line {line}: {name} has half a character. Correct it.")
    return tuple(row)


def _json_lines(text: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    columns: tuple[str, ...] = ()
    rows: list[tuple[str, ...]] = []
    for line, row in _objects(text):
        if not columns:
            columns = _columns(list(row), line)
        for name in row.keys() - set(columns):
            raise UsersError(
                f"line {line}: has a key that the first line lacks"
                + (f", {name}. " if _COLUMN.fullmatch(name) else ". ")
                + "Write the same keys in all lines."
            )
        for name in columns:
            if name not in row:
                raise UsersError(f"line {line}: lacks column {name}. Add it.")
        values = [_text(name, row[name], line) for name in columns]
        if not any(value.strip() for value in values):
            raise UsersError(f"line {line}: is an empty row. Remove it, or fill it in.")
        rows.append(_row(columns, values, line))
    return columns, rows


def _objects(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object); lines without anything may end a file."""
    # Not splitlines: JSON texts may hold the other line breaks of Unicode.
    lines = text.rstrip().split("\n")
    for line, content in enumerate(lines, start=1):
        if not content.strip():
            raise UsersError(f"line {line}: is an empty row. Remove it, or fill it in.")
        try:
            row = json.loads(content)
        except (ValueError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise UsersError(f"line {line}: is not a JSON object. Write one per line.")
        yield line, row


def _text(name: str, value: Any, line: int) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return json.dumps(value)
    raise UsersError(
        f"line {line}: {name} is not a text, a number, true or false. Write one of them."
    )
