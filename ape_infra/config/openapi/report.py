"""What is left out of a document, or guessed, and why: one line for each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Level = Literal["ok", "warn"]
MAX_NAMED = 3


class Kind(NamedTuple):
    """`text` has the count as {n}, the subject as {x}, and endings for one or many."""

    level: Level
    text: str
    remedy: str = ""


KINDS: dict[str, Kind] = {
    "body_type": Kind(
        "warn",
        "{n} operation{s} {has_have} bodies of type {x}, which agents cannot send: left out",
    ),
    "optional_body_type": Kind(
        "warn",
        "{n} operation{s} {has_have} bodies of type {x}, which agents cannot send: sent without",
    ),
    "get_body": Kind("warn", "{n} GET operation{s} {has_have} a body: it is not sent"),
    "text_type": Kind(
        "ok", "{n} operation{s} {has_have} bodies of type {x}, which agents write as text"
    ),
    "binary_type": Kind(
        "warn", "{n} operation{s} {has_have} bodies of type {x}, of which agents send a text only"
    ),
    "parameters": Kind(
        "warn", "{n} operation{s} {has_have} more than 200 parameters: 200 are known"
    ),
    "authorization": Kind(
        "warn",
        "{n} operation{s} require{third} header Authorization, which only a sign-in sends",
        "Declare it in targetSignIn, or set auth of a route of gatewayConfig.",
    ),
    "cut": Kind(
        "ok",
        "{n} operation{s} {has_have} schemas of more than 12 levels or 150 parts: agents know so "
        "much of them",
    ),
    "choice": Kind(
        "ok",
        "{n} operation{s} {has_have} a choice of schemas, of which agents know the first alone",
    ),
    "callbacks": Kind("ok", "{n} callback{s} {is_are} left out, since the target sends them"),
    "querystring": Kind(
        "warn", "{n} operation{s} {has_have} a parameter in `querystring`: it is not sent"
    ),
    "security": Kind(
        "warn",
        "{n} operation{s} need{third} security scheme {x}, whose credentials agents do not have",
        "Set targetCredentials, declare targetSignIn, set auth of a route of gatewayConfig, or let "
        "sessions log in.",
    ),
    "other_security": Kind(
        "warn",
        "{n} operation{s} need{third} security scheme {x}, which targetSignIn does not have: left "
        "out",
        "Add a step for it to targetSignIn to use them.",
    ),
    "reference": Kind(
        "warn", "{n} operation{s} refer{third} to {x}: what it describes is not sent"
    ),
    "path_reference": Kind("warn", "{n} path{s} or operation{s} {is_are} left out: {x}"),
    "method": Kind(
        "warn", "{n} operation{s} {has_have} method {x}, which agents do not call: left out"
    ),
    "path": Kind("warn", "{n} path{s} {is_are} left out: a path {x}"),
    "path_slash": Kind("warn", "{n} path{s} do{third_es} not start with /: one is put before"),
    "malformed": Kind("warn", "{n} part{s} of the document {is_are} ignored: {x}"),
    "duplicate": Kind("warn", "{n} key{s} {is_are} twice in one object: the last value counts"),
    "external_example": Kind("warn", "{n} example{s} {is_are} in another place: not read"),
    "host": Kind(
        "ok",
        "{n} operation{s} {has_have} server {x}: only its path counts, the target is the setting",
    ),
    "base_path": Kind(
        "ok", "{n} operation{s} {has_have} base path {x}, which the target's URL has already"
    ),
    "delete": Kind(
        "ok",
        "{n} operation{s} with method DELETE {is_are} off",
        "Name them in targetInclude to use them.",
    ),
    "deprecated": Kind(
        "ok", "{n} deprecated operation{s} {is_are} off", "Name them in targetInclude to use them."
    ),
    "not_selected": Kind("ok", "{n} operation{s} {is_are} not selected by targetInclude"),
    "excluded": Kind("ok", "{n} operation{s} {is_are} excluded by targetExclude"),
    "not_allowed": Kind(
        "ok",
        "{n} operation{s} {is_are} left out: no endpoint of the route in gatewayConfig allows them",
        "Add an endpoint there to use them.",
    ),
    "selector": Kind(
        "warn",
        "{n} selector{s} select{third} no operation of the document: {x}",
        "Correct or remove it.",
    ),
    "webhooks": Kind("ok", "{n} webhook{s} {is_are} left out, since the target sends them"),
}


class Line(NamedTuple):
    """One line of the report. `details`: every place."""

    kind: str
    level: Level
    text: str
    remedy: str
    details: tuple[str, ...]


@dataclass
class Report:
    """Collects findings: kind and subject -> places, each once, in their order."""

    _found: dict[tuple[str, str], dict[str, None]] = field(default_factory=dict)

    def add(self, kind: str, place: str, subject: str = "") -> None:
        self._found.setdefault((kind, subject), {}).setdefault(place)

    def __bool__(self) -> bool:
        return bool(self._found)

    def lines(self) -> Iterator[Line]:
        """Yield one line for each kind and subject, those that need attention first."""
        found = sorted(self._found.items(), key=lambda item: KINDS[item[0][0]].level == "ok")
        for (name, subject), places in found:
            kind, count = KINDS[name], len(places)
            one = count == 1
            text = kind.text.format(
                n=count,
                x=subject,
                s="" if one else "s",
                third="s" if one else "",
                third_es="es" if one else "",
                is_are="is" if one else "are",
                has_have="has" if one else "have",
            )
            named = [place for place in places if place != subject][:MAX_NAMED]
            more = f" and {count - len(named)} more" if named and count > len(named) else ""
            where = f" ({', '.join(named)}{more})" if named else ""
            yield Line(name, kind.level, f"{text}{where}.", kind.remedy, tuple(places))
