"""Conversion of the original project's gateway config to ours. Pure: reads and writes no file.

The text comes from somebody else, so nothing in it is taken for granted. Values of the wrong type
stay as they are: the gateway's own loader, which gets the result, names them.
"""

from __future__ import annotations

import base64
import json
import re
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ape_contracts.gateway_config import (
    CONNECTION,
    METHODS,
    MILLISECONDS_FROM,
    TIMEOUT,
    GatewayConfigError,
    load,
    shown,
)

MAX_BYTES = 8 << 20
MAX_LINES = 100
_SHOWN_ERRORS = 20
_MINUTE_MS = 60_000
_MAX_WINDOW_MS = 366 * 24 * 60 * _MINUTE_MS
_MAX_LIMIT = 10**9
_MAX_RETRIES, _MAX_BACKOFF = 10, 60
_INFERENCE_HOSTS = ("cerebras_proxy", "cerebras-proxy")
_LEVELS = {"WARN": "WARNING", "VERBOSE": "DEBUG", "SILLY": "DEBUG", "CRITICAL": "ERROR"}
_UNKNOWN = "unknown key; the gateway has no counterpart"
_INSTEAD = {
    "": {
        "gateway": "the stack sets its name and port, and limits requests in flight; set the "
        "rateLimit of endpoints",
        "metrics": "the gateway always serves /metrics",
    },
    "route": {
        "sessionHandling": "each agent keeps its own cookies and tokens",
        "paginationHandling": "the model decides which pages it reads",
        "dataModels": "the setting targetOpenapi describes bodies to the agents",
        "errorHandling": "retry_policy.retry_on decides which answers are retried",
    },
    "endpoint": {"metadata": "the setting targetOpenapi describes requests to the agents"},
    "health_check": {"interval": "the gateway checks every 10 s"},
    "auth": {"type": "the gateway sends auth.headers as they are"},
    "logging": {"tracing": "the gateway always passes on traceparent and X-Trace-ID"},
    "other": {},
}


class GatewayImportError(Exception):
    """The text cannot be converted. One line per problem, with rule and remedy; no values."""


@dataclass(frozen=True)
class Note:
    """`key`: a path in the original's config, [*] for any of a list; `times`: how often."""

    key: str
    reason: str
    times: int = 1

    def __str__(self) -> str:
        often = f" ({self.times} times)" if self.times > 1 else ""
        return f"{self.key}{often}: {self.reason}."


@dataclass(frozen=True)
class Converted:
    """`config`: accepted by the gateway. `dropped`: keys without effect; `changed`: new values."""

    config: dict[str, Any]
    dropped: tuple[Note, ...]
    changed: tuple[Note, ...]

    @property
    def text(self) -> str:
        return json.dumps(self.config, indent=2) + "\n"


def convert(text: str) -> Converted:
    """Convert the JSON text of an original's config. Raises GatewayImportError."""
    try:
        work = _Conversion()
        config = work.config(_parsed(text))
        load(json.dumps(config))
    except RecursionError:
        raise GatewayImportError("The file is nested too deeply to be a gateway config.") from None
    except GatewayConfigError as error:
        lines = str(error).splitlines()
        more = len(lines) - _SHOWN_ERRORS
        if more > 0:
            lines[_SHOWN_ERRORS:] = [f"{more} more problems follow from the same file."]
        raise GatewayImportError("\n".join(lines)) from None
    return Converted(config, _notes(work.dropped), _notes(work.changed))


def _notes(found: Counter[tuple[str, str]]) -> tuple[Note, ...]:
    return tuple(Note(key, reason, times) for (key, reason), times in found.items())


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _parsed(text: str) -> dict[str, Any]:
    try:
        raw = json.loads(text, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        raise GatewayImportError(
            f"line {error.lineno}, column {error.colno}: not JSON ({error.msg}). "
            "Correct the file there."
        ) from None
    except ValueError:
        raise GatewayImportError("The file has a number that is not JSON. Correct it.") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("routes"), dict) or not raw["routes"]:
        raise GatewayImportError(
            "The file is not a gateway config: it has no object `routes` with a route in it. "
            "Import the ape.mcp-gateway.json of the original."
        )
    return raw


class _Conversion:
    """One conversion. Its methods return the converted part, and count what they drop or change."""

    def __init__(self) -> None:
        self.dropped: Counter[tuple[str, str]] = Counter()
        self.changed: Counter[tuple[str, str]] = Counter()

    def config(self, given: dict[str, Any]) -> dict[str, Any]:
        kept = self._kept("", given, ("routes", "logging"), "")
        routes = {}
        for name, route in kept["routes"].items():
            at = f"routes.{shown(name)}"
            if _host(route) in _INFERENCE_HOSTS:
                self.dropped[at, "agents reach the model through the inference proxy"] += 1
            else:
                routes[name] = self._route(at, route)
        if not routes:
            raise GatewayImportError(
                "routes: has no route to an application, only the one to the model. Add the route "
                "to your application."
            )
        made = {"routes": routes}
        if "logging" in kept and (logging := self._logging(kept["logging"])):
            made["logging"] = logging
        return made

    def _kept(
        self, at: str, given: Mapping[str, Any], keys: Collection[str], level: str
    ) -> dict[str, Any]:
        """The entries with a value and one of `keys`; the others are dropped, with the reason."""
        kept = {}
        for key, value in given.items():
            if key not in keys:
                where = f"{at}.{shown(key)}" if at else shown(key)
                self.dropped[where, _INSTEAD[level].get(key, _UNKNOWN)] += 1
            elif value is not None:
                kept[key] = value
        return kept

    def _route(self, at: str, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        keys = (
            *("name", "description", "base_url", "timeout", "retry_policy", "auth", "headers"),
            *("health_check", "endpoints", "passTargetStatus"),
        )
        made = self._kept(at, given, keys, "route")
        parts = {
            "timeout": self._timeout,
            "retry_policy": self._retry_policy,
            "auth": self._auth,
            "health_check": self._health_check,
            "endpoints": self._endpoints,
        }
        made |= {key: part(f"{at}.{key}", made[key]) for key, part in parts.items() if key in made}
        if "passTargetStatus" not in made:
            made["passTargetStatus"] = True
            self.changed[
                f"{at}.passTargetStatus",
                "true, because the original answers with the target's status",
            ] += 1
        return made

    def _timeout(self, at: str, given: Any) -> Any:
        milliseconds = _number(given, MILLISECONDS_FROM, 600_000)
        if milliseconds is None:
            return given
        self.changed[at, f"{given:g} ms became {given / 1000:g} s"] += 1
        return milliseconds / 1000

    def _retry_policy(self, at: str, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        made = self._kept(at, given, ("max_retries", "backoff_factor", "retry_on"), "other")
        for key, most in (("max_retries", _MAX_RETRIES), ("backoff_factor", _MAX_BACKOFF)):
            if _number(made.get(key), most, _MAX_LIMIT) not in (None, most):
                self.changed[f"{at}.{key}", f"{made[key]:g} became {most}, the maximum"] += 1
                made[key] = most
        if isinstance(statuses := made.get("retry_on"), list):
            made["retry_on"] = [
                x for x in statuses if _whole(x, 400, 599) or x in (CONNECTION, TIMEOUT)
            ]
            if others := len(statuses) - len(made["retry_on"]):
                reason = "not a status from 400 to 599, connection or timeout"
                self.dropped[f"{at}.retry_on[*]", reason] += others
        return made

    def _auth(self, at: str, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        made = self._kept(at, given, ("headers", "credentials"), "auth")
        credentials = made.pop("credentials", None)
        headers = made.get("headers", {})
        if not credentials or not isinstance(headers, dict):
            return made
        value = _authorization(given.get("type"), credentials)
        if value is None or any(str(name).lower() == "authorization" for name in headers):
            reason = "the gateway sends auth.headers; put the credentials there"
            self.dropped[f"{at}.credentials", reason] += 1
            return made
        self.changed[f"{at}.credentials", "became the header Authorization in auth.headers"] += 1
        return {"headers": headers | {"Authorization": value}}

    def _health_check(self, at: str, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        made = {"enabled": True} | self._kept(at, given, ("enabled", "path"), "health_check")
        if isinstance(path := made.get("path"), str):
            made["path"] = self._path(f"{at}.path", path)
        return made

    def _endpoints(self, at: str, given: Any) -> Any:
        if not isinstance(given, list) or not given:
            return given
        made = [self._endpoint(f"{at}[*]", each) for each in given]
        found = [each for each in made if each is not None]
        if not found:
            raise GatewayImportError(
                f"{at}: no endpoint has a method that the gateway allows "
                f"({', '.join(METHODS)}). Correct the methods, or remove {at}."
            )
        self.changed[at, "only these are allowed here; the original allowed every path"] += 1
        return found

    def _endpoint(self, at: str, given: Any) -> Any:
        """The endpoint; None if none of its methods can be allowed."""
        if not isinstance(given, dict):
            return given
        made = self._kept(at, given, ("path", "methods", "description", "rateLimit"), "endpoint")
        if isinstance(path := made.get("path"), str):
            made["path"] = self._path(f"{at}.path", path)
        if isinstance(methods := made.get("methods"), list):
            made["methods"] = self._methods(f"{at}.methods[*]", methods)
            if methods and not made["methods"]:
                return None
        if isinstance(limit := made.get("rateLimit"), dict):
            made.pop("rateLimit")
            if per_minute := self._rate_limit(f"{at}.rateLimit", limit):
                made["rateLimit"] = per_minute
        return made

    def _methods(self, at: str, given: list[Any]) -> list[str]:
        names = [str(x).upper() if isinstance(x, str) else "" for x in given]
        if {"*", "ALL"} & set(names):
            return list(METHODS)
        if others := sum(name not in METHODS for name in names):
            self.dropped[at, f"not one of {', '.join(METHODS)}"] += others
        return [name for name in dict.fromkeys(names) if name in METHODS]

    def _path(self, at: str, given: str) -> str:
        """A template of this gateway: with a first slash, without a query, {id} for :id."""
        path, _, query = given.partition("?")
        made = re.sub(r"(?<=/):([A-Za-z_]\w*)", r"{\1}", f"/{path.removeprefix('/')}")
        if query:
            self.dropped[f"{at}?...", "every query is allowed"] += 1
        if made != path:
            self.changed[at, "a first slash was added, or :name became {name}"] += 1
        if "*" in made:
            self.changed[at, "* has no meaning here; write {name} for one segment"] += 1
        return made

    def _rate_limit(self, at: str, given: dict[str, Any]) -> int | None:
        """Requests per minute; None: no limit."""
        if given.get("enabled") is False:
            return None
        kept = self._kept(at, given, ("windowMs", "max", "enabled"), "other")
        window, most = kept.get("windowMs", _MINUTE_MS), kept.get("max")
        if not _number(window, 1, _MAX_WINDOW_MS) or not (most := _number(most, 1, _MAX_LIMIT)):
            self.dropped[at, "windowMs and max must be numbers above 0"] += 1
            return None
        per_minute = max(1, int(most * _MINUTE_MS // window))
        if window != _MINUTE_MS:
            text = f"{most:g} per {window:g} ms became {per_minute} per minute"
            self.changed[at, text] += 1
        self.changed[at, "the limit applies to all agents together"] += 1
        return per_minute

    def _logging(self, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        made = self._kept("logging", given, ("level", "format"), "logging")
        if isinstance(level := made.get("level"), str):
            name = level.upper()
            made["level"] = _LEVELS.get(name, name)
            if made["level"] not in ("DEBUG", "INFO", "WARNING", "ERROR"):
                self.dropped["logging.level", "not one of DEBUG, INFO, WARNING, ERROR"] += 1
                made.pop("level")
        if made.get("format") not in (None, "json", "text"):
            self.dropped["logging.format", "not json or text"] += 1
            made.pop("format")
        return made


def _number(value: Any, low: float, high: float) -> float | None:
    """`value`, if it is a number from `low` to `high`."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if number and low <= value <= high else None


def _whole(value: Any, low: int, high: int) -> bool:
    return isinstance(value, int) and _number(value, low, high) is not None


def _host(route: Any) -> str | None:
    url = route.get("base_url") if isinstance(route, dict) else None
    try:
        return urlsplit(url).hostname if isinstance(url, str) else None
    except ValueError:
        return None


def _authorization(kind: Any, credentials: Any) -> str | None:
    """The value of Authorization; None if the credentials are not those of `kind`."""
    given = credentials if isinstance(credentials, dict) else {}
    token, user, password = (given.get(key) for key in ("token", "username", "password"))
    name = kind.lower() if isinstance(kind, str) else ""
    if name == "bearer" and isinstance(token, str) and token:
        return f"Bearer {token}"
    if name == "basic" and isinstance(user, str) and isinstance(password, str):
        pair = f"{user}:{password}".encode("utf-8", "replace")
        return f"Basic {base64.b64encode(pair).decode()}"
    return None
