"""The gateway's config file: JSON, checked in full before anything uses it.

    {"routes": {"shop": {"base_url": "http://shop:8080"}}}

Errors name path, rule and remedy. They never show a value of the file: it may hold credentials.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from ape_contracts import paths

Method = Literal["GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE"]
METHODS: tuple[Method, ...] = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
CONNECTION, TIMEOUT = "connection", "timeout"
# From this value on, a timeout is in milliseconds: no one waits 1000 s for an answer.
MILLISECONDS_FROM = 1000
_SHOWN_CHARS = 80
_ROUTE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
MAX_UPLOAD_BYTES = 1 << 20
CONTENT_TYPE = "^[!#$&^_.+0-9A-Za-z-]{1,64}/[!#$&^_.+0-9A-Za-z-]{1,64}$"
_CONTENT_TYPE = re.compile(CONTENT_TYPE)
_TEMPLATE = re.compile(rf"({'|'.join(METHODS)}) /[^\s?#]*")


class GatewayConfigError(Exception):
    """Every broken rule of the config, one line each: path, rule and remedy."""


class _Strict(BaseModel):
    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, populate_by_name=True, hide_input_in_errors=True
    )


def _checked_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or re.search(r"[\r\n\0]", value):
            raise ValueError("not a header. Use names such as X-Api-Key, and values on one line")
    return headers


class RetryPolicy(_Strict):
    """Retries of idempotent requests (GET, HEAD, OPTIONS, PUT, DELETE); others are sent once.

    Retry n waits `backoff_factor` x 2^(n-1) seconds, or the target's Retry-After if it is longer.
    `retry_on` holds statuses of the target, "connection" and "timeout".
    """

    max_retries: int = Field(default=0, ge=0, le=10)
    backoff_factor: float = Field(default=0.5, ge=0, le=60)
    retry_on: list[int | str] = [502, 503, 504, CONNECTION]

    @field_validator("retry_on", mode="before")
    @classmethod
    def _known(cls, value: Any) -> Any:
        for item in value if isinstance(value, list) else [None]:
            number = isinstance(item, int) and not isinstance(item, bool) and 400 <= item <= 599
            if not number and item not in (CONNECTION, TIMEOUT):
                raise ValueError(
                    "must be a list of statuses from 400 to 599, "
                    f'"{CONNECTION}" and "{TIMEOUT}", for example [502, 503, "{TIMEOUT}"]'
                )
        return value


class Auth(_Strict):
    """Headers that the gateway adds to each request; agents never see them."""

    headers: dict[str, str] = {}

    _headers = field_validator("headers")(_checked_headers)


class HealthCheck(_Strict):
    enabled: bool = False
    path: str = Field(default="/health", pattern="^/")


class Endpoint(_Strict):
    """`path` may be a template, /products/{id}. `rateLimit`: of all agents, per minute."""

    path: str
    methods: list[Method] = Field(default=["GET"], min_length=1)
    rate_limit: int | None = Field(default=None, alias="rateLimit", ge=1)
    description: str = ""

    @field_validator("methods", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        if isinstance(value, list):
            return [x.upper() if isinstance(x, str) else x for x in value]
        return value

    @field_validator("path")
    @classmethod
    def _path(cls, value: str) -> str:
        if why := paths.problem(value):
            raise ValueError(f"{why}, for example /products/{{id}}")
        return value


class Route(_Strict):
    """An API that agents may call. `timeout`: seconds, or milliseconds from 1000 on.

    Agents may call only the `endpoints`, if any are given. `passTargetStatus`: POST /mcp/request
    is answered with the target's status, also an error, in place of 200.
    `mcp`: `base_url` is that of an MCP server (streamable HTTP): POST /tools/NAME calls its tool.
    `templates`: "METHOD /path/{x}" of requests, by which results name them; they allow nothing.
    """

    name: str = ""
    description: str = ""
    base_url: str
    timeout: float = Field(default=30.0, gt=0, le=600_000)
    retry_policy: RetryPolicy = RetryPolicy()
    auth: Auth = Auth()
    headers: dict[str, str] = {}
    health_check: HealthCheck = HealthCheck()
    endpoints: list[Endpoint] = []
    pass_target_status: bool = Field(default=False, alias="passTargetStatus")
    mcp: bool = False
    templates: list[str] = []

    _headers = field_validator("headers")(_checked_headers)

    @field_validator("templates")
    @classmethod
    def _templates(cls, value: list[str]) -> list[str]:
        if not all(map(is_template, value)):
            raise ValueError("has a text that is not as in GET /orders/{id}")
        return value

    @field_validator("base_url")
    @classmethod
    def _url(cls, value: str) -> str:
        try:
            parts = urlsplit(value)
            _ = parts.port
        except ValueError:
            raise ValueError("is not a URL. Write it as in http://shop:8080") from None
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                "has no scheme (http:// or https://) or no host. Write it as in http://shop:8080"
            )
        if parts.username is not None or parts.password is not None:
            raise ValueError("holds credentials. Put them into auth.headers")
        if parts.query or parts.fragment or re.search(r"\s", value):
            raise ValueError("must end with the path: no blanks, ? or #")
        return value.rstrip("/")

    @property
    def timeout_seconds(self) -> float:
        return self.timeout / 1000 if self.timeout >= MILLISECONDS_FROM else self.timeout

    def endpoint(self, method: str, path: str) -> Endpoint | None:
        """The first endpoint that allows `method` on `path`."""
        for endpoint in self.endpoints:
            if method in endpoint.methods and paths.matches(endpoint.path, path):
                return endpoint
        return None


class Logging(_Strict):
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    format: Literal["json", "text"] = "json"

    @field_validator("level", mode="before")
    @classmethod
    def _upper(cls, value: Any) -> Any:
        return value.upper() if isinstance(value, str) else value


def is_template(text: str) -> bool:
    """Whether it is a method and a path, such as GET /orders/{id}."""
    return _TEMPLATE.fullmatch(text) is not None


def is_content_type(text: str) -> bool:
    """Whether it is a content type without parameters, such as image/png."""
    return _CONTENT_TYPE.fullmatch(text) is not None


class Upload(_Strict):
    """The files that agents upload: of so many `bytes` and that `contentType`, or a `file`.

    `file`: its path, from the folder of the config; at most 1 MiB. Its name gives the content type.
    """

    size: int = Field(default=1024, alias="bytes", ge=0, le=MAX_UPLOAD_BYTES)
    content_type: str = Field(default="", alias="contentType")
    file: str = ""

    @field_validator("content_type")
    @classmethod
    def _type(cls, value: str) -> str:
        if not is_content_type(value):
            raise ValueError("is not a content type. Write it as in image/png")
        return value

    @model_validator(mode="after")
    def _either(self) -> Self:
        if self.file and "size" in self.model_fields_set:
            raise ValueError("has both bytes and file. Remove one: a file has its own size")
        return self


class GatewayConfig(_Strict):
    routes: dict[str, Route]
    upload: Upload = Upload()
    logging: Logging = Logging()

    @model_validator(mode="after")
    def _names(self) -> Self:
        for name in self.routes:
            if not _ROUTE_NAME.fullmatch(name):
                raise ValueError(
                    f"a route's name must be letters, digits, _ . - (64 at most), such as shop; "
                    f'"{shown(name)}" is not'
                )
        return self

    @property
    def warnings(self) -> list[str]:
        """Values that are accepted but may be mistakes, one sentence each."""
        return [
            f"routes.{name}.timeout: {route.timeout:g} is taken as milliseconds "
            f"({route.timeout_seconds:g} s). Write seconds below {MILLISECONDS_FROM}."
            for name, route in self.routes.items()
            if route.timeout >= MILLISECONDS_FROM
        ]


_NEEDS = {
    "routes": "The config needs at least one route, for example "
    '"routes": {"shop": {"base_url": "http://shop:8080"}}.',
    "base_url": "Every route needs the base URL of an API, for example "
    '"base_url": "http://shop:8080".',
    "path": 'Every endpoint needs a path, for example "path": "/products/{id}".',
}


def shown(key: object) -> str:
    """A key of the file as it may be printed: short, on one line, without control characters."""
    text = str(key)
    plain = text if text.isprintable() else text.encode("unicode_escape").decode()
    return plain if len(plain) <= _SHOWN_CHARS else f"{plain[:_SHOWN_CHARS]}..."


def _sentence(problem: Any) -> str:
    where = ".".join(shown(part) for part in problem["loc"]) or "config"
    last = str(problem["loc"][-1]) if problem["loc"] else ""
    if problem["type"] == "missing":
        return f"{where}: missing. {_NEEDS.get(last, 'Add it.')}"
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key. Remove it, or correct its spelling."
    if problem["type"] == "value_error":
        return f"{where}: {problem['ctx']['error']}."
    if problem["type"] == "model_type":
        return f"{where}: must be a JSON object, in braces."
    rule = problem["msg"].replace("Input should be", "must be").replace("dictionary", "object")
    return f"{where}: {rule[0].lower() + rule[1:]}. Correct the value."


def load(text: str) -> GatewayConfig:
    """The config of JSON `text`. Raises GatewayConfigError with every broken rule."""
    try:
        raw = json.loads(text)
    except json.JSONDecodeError as error:
        raise GatewayConfigError(
            f"line {error.lineno}, column {error.colno}: not JSON ({error.msg}). "
            "Correct the file there; a JSON checker helps."
        ) from None
    except (RecursionError, ValueError):
        # ValueError: Python reads no number of more than 4300 digits.
        raise GatewayConfigError(
            "config: nested too deeply, or a number is too long. Use the documented keys."
        ) from None
    if not isinstance(raw, dict):
        raise GatewayConfigError(f"config: must be a JSON object. {_NEEDS['routes']}")
    if "routes" in raw and raw["routes"] in ({}, None, []):
        raise GatewayConfigError(f"routes: names no route. {_NEEDS['routes']}")
    try:
        return GatewayConfig.model_validate(raw)
    except ValidationError as error:
        lines = [_sentence(problem) for problem in error.errors(include_url=False)]
        raise GatewayConfigError("\n".join(lines)) from None
