"""Recordings (Postman, HAR, curl) as an OpenAPI document, settings and sign-in. Reads no file."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ape_infra.config.imports import curl, document, har, model, postman, secrets, stack_settings
from ape_infra.config.imports.errors import ImportProblem
from ape_infra.config.imports.model import MAX_BYTES, Notes, Recording, Request
from ape_infra.config.imports.secrets import Secret

__all__ = ["DOCUMENT", "MAX_BYTES", "SETTINGS", "ImportProblem", "Imported", "convert", "read"]
DOCUMENT, SETTINGS = "imported.openapi.json", "imported.settings.yaml"
_READ = "Postman collections (2.1), HAR files and curl commands are read."


@dataclass(frozen=True)
class Imported:
    """`document` and `settings_text`: the two files. No secret of a recording is in any part.

    `command` sets the credentials; empty: the sign-in needs none.
    """

    document: dict[str, Any]
    settings: dict[str, Any]
    endpoints: list[dict[str, Any]]
    settings_text: str
    kinds: tuple[str, ...]
    operations: int
    requests: int
    secrets: tuple[tuple[Secret, int], ...]
    command: str
    notes: Notes

    @property
    def document_text(self) -> str:
        return json.dumps(self.document, indent=2, ensure_ascii=False) + "\n"


def read(raw: bytes, name: str, notes: Notes) -> Recording:
    """Return the requests of a file. Raises ImportProblem, whose text has no name of the file."""
    if len(raw) > MAX_BYTES:
        raise ImportProblem(
            f"is larger than {MAX_BYTES >> 20} MiB. Record one session, without content of answers."
        )
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ImportProblem(f"is not UTF-8 text. {_READ}") from None
    if not text.strip():
        raise ImportProblem(f"is empty. {_READ}")
    if text.lstrip()[:1] not in "{[":
        return curl.requests(text, name, notes)
    try:
        data = json.loads(text)
    except json.JSONDecodeError as error:
        raise ImportProblem(
            f"line {error.lineno}, column {error.colno}: not JSON ({error.msg}). "
            "Correct the file there, or record it again."
        ) from None
    except ValueError:
        raise ImportProblem("has a number that is too long. Correct it.") from None
    except RecursionError:
        raise ImportProblem("is nested too deeply. Export a part of it.") from None
    return _of_data(data, name, notes)


def _of_data(data: Any, name: str, notes: Notes) -> Recording:
    if not isinstance(data, dict):
        raise ImportProblem(f"has a JSON value that is not an object. {_READ}")
    if model.depth(data) > model.MAX_DEPTH:
        raise ImportProblem("is nested too deeply. Export a part of it.")
    collection = data.get("collection")
    if "log" in data:
        return har.requests(data, name, notes)
    if "item" in data or (isinstance(collection, dict) and "item" in collection):
        return postman.requests(data, name, notes)
    if {"openapi", "swagger"} & data.keys():
        raise ImportProblem("is an OpenAPI document. Set targetOpenapi to it: no import is needed.")
    if "requests" in data and "order" in data:
        raise ImportProblem("is a Postman collection of version 1. Export it as version 2.1.")
    if isinstance(routes := data.get("routes"), dict) and routes:
        raise ImportProblem("is a gateway config. Use: ape-load import gateway FILE")
    raise ImportProblem(f"is JSON of another kind. {_READ}")


def convert(
    recordings: Sequence[Recording],
    notes: Notes,
    *,
    host: str = "",
    openapi: str = DOCUMENT,
    project: str = "ape",
    title: str = "Imported",
) -> Imported:
    """Return the files of recordings, of `host` or the most frequent one. Raises ImportProblem."""
    given = [request for each in recordings for request in each.requests]
    origin, chosen = _of_target(given, host, notes)
    chosen = [each for each in chosen if not _is_left_out(each, notes)]
    taken = secrets.take(chosen, notes)
    recorded = document.operations(taken.requests, taken.schemes, notes)
    if not recorded:
        raise ImportProblem(
            "No request that agents can send is left. Record a session with the target, or name "
            "its host with --host."
        )
    made = document.document(recorded, title, taken.security, notes)
    settings = stack_settings.settings(recorded, taken, origin, openapi, notes)
    endpoints = stack_settings.endpoints(recorded, made, taken)
    return Imported(
        document=made,
        settings=settings,
        endpoints=endpoints,
        settings_text=stack_settings.text(settings, endpoints, project, taken.command),
        kinds=tuple(dict.fromkeys(each.kind for each in recordings)),
        operations=len(recorded),
        requests=sum(len(each.requests) for each in recorded),
        secrets=tuple(taken.secrets.items()),
        command=taken.command,
        notes=notes,
    )


def _of_target(given: Sequence[Request], host: str, notes: Notes) -> tuple[str, list[Request]]:
    """Return (origin of the target, its requests). Raises ImportProblem."""
    if not given:
        raise ImportProblem("There is no request to import. Record a session with the target.")
    if host:
        wanted = model.of_url(host)[0]
        name = wanted.partition("://")[2]
        if not name or model.of_url(host)[1] != "/":
            raise ImportProblem(
                f"--host {host[:80]}: is not a host. Write it as shop.example:8080."
            )
    else:
        name = Counter(each.host for each in given).most_common(1)[0][0]
        if model.VARIABLE.search(name) or not name:
            raise ImportProblem(
                f"The host is the variable {model.named(name) or 'of an empty name'}, which has no "
                "value. Add --host HOST."
            )
        wanted = ""
    chosen = []
    for each in given:
        if each.host == name or (host and model.VARIABLE.search(each.host)):
            chosen.append(each)
        else:
            notes.add(f"another host is left out: {model.named(each.host)[:100]}")
    if not chosen:
        raise ImportProblem(f"No request has host {name[:100]}. Name one of the recording's hosts.")
    origins = Counter(each.origin for each in chosen if each.host == name)
    origin = origins.most_common(1)[0][0] if origins else wanted
    return (host if "://" in host else origin).rstrip("/"), [
        replace(each, origin=origin) for each in chosen
    ]


_STATIC = (
    *(".png", ".jpg", ".jpeg", ".gif", ".svg", ".ico", ".webp", ".avif", ".css", ".js", ".mjs"),
    *(".map", ".woff", ".woff2", ".ttf", ".otf", ".eot", ".mp4", ".webm", ".mp3", ".wasm"),
)


def _is_left_out(request: Request, notes: Notes) -> bool:
    if request.path.count("/") > model.MAX_SEGMENTS:
        notes.add(f"a path with more than {model.MAX_SEGMENTS} segments is left out")
        return True
    if request.method == "GET" and request.path.lower().endswith(_STATIC):
        notes.add("a static file (image, style, script, font) is left out", request.path[:100])
        return True
    return False
