"""The settings of each service, as one JSON document in the variable APE_SETTINGS.

The infrastructure builds a document with `encode`, the service reads it with `decode`; both check
the same rules. Files (secrets, a config, a recording) stay files: the document names their paths.

Dataclasses and Python's own JSON, since msgspec adds 7.5 MB to the 23 MB of an agent.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from typing import (
    Annotated,
    Any,
    Literal,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

from ape_contracts import conditions, sign_in
from ape_contracts.limits import LOG_STREAMS
from ape_contracts.providers import PROVIDERS, TokensField

VARIABLE = "APE_SETTINGS"
# Has the token of a container of agents for its reports, where no file has it.
REPORT_TOKEN = "APE_REPORT_TOKEN"
SERVICE_PORT = 8080
# Of Linux, for a variable with its name and the zero byte at its end.
MAX_VARIABLE_BYTES = 128 * 1024
# Metadata of a field that came later: a document has it only with a value other than its default,
# so that it replaces no container of a stack that does not use it.
LATER = {"later": True}
# The value of a header, or empty.
USER_AGENT = r"(?:[!-~](?:[ -~]{0,198}[!-~])?)?"
Redirects = Literal["follow", "report", "off"]
ModelKind = Literal["offline", "provider", "recorded"]
# Takes a value of the right type; returns what is wrong and what to do, or "".
Rule = Callable[[Any], str]


class ServiceSettingsError(Exception):
    """Every broken rule of a document, one line each: path, what is wrong, what to do."""


class Template(str):
    """Text with a template that Swarm fills in. In all other text a template stays as it is."""


def _at_least(minimum: float) -> Rule:
    def rule(value: Any) -> str:
        # NaN is not at least anything.
        inside = minimum <= value < float("inf")
        return "" if inside else f"is {value}; must be at least {minimum:g}. Correct it."

    return rule


def _matches(pattern: str, problem: str) -> Rule:
    def rule(value: Any) -> str:
        return "" if re.fullmatch(pattern, value) else problem

    return rule


def _success(value: Any) -> str:
    try:
        conditions.parse(value)
    except conditions.ConditionError as error:
        return f"{error} Correct it."
    return ""


def _endpoints(value: Any) -> str:
    for endpoint in value:
        if not isinstance(endpoint, dict) or not all(
            isinstance(endpoint.get(key), str) for key in ("method", "path")
        ):
            return "must be a list of {method, path, description, body}. Correct it."
    return ""


def _sign_in(value: Any) -> str:
    try:
        sign_in.steps(value)
    except sign_in.SignInError as error:
        return f"{error} Correct it."
    return ""


Url = Annotated[str, _matches(r"https?://.+", "has no http:// or https://. Write the whole URL.")]
Text = Annotated[str, _matches(r"(?s).+", "is empty. Write a text.")]
Price = Annotated[
    str, _matches(r"\d{1,6}(\.\d{1,6})?", "is not a price. Write a number such as 0.85.")
]
UserAgent = Annotated[
    str, _matches(USER_AGENT, "is not a User-Agent. Write at most 200 characters of ASCII.")
]
Count = Annotated[int, _at_least(0)]
PositiveCount = Annotated[int, _at_least(1)]
Seconds = Annotated[float, _at_least(0)]
PositiveSeconds = Annotated[float, _at_least(0.001)]


@dataclass(frozen=True, kw_only=True)
class ServiceSettings:
    """Settings of a service; an empty path names no file."""


@dataclass(frozen=True, kw_only=True)
class HttpSettings(ServiceSettings):
    """Settings of a service that listens on a port; port 0: a free one."""

    bind: str = "0.0.0.0"
    port: Count = SERVICE_PORT


@dataclass(frozen=True, kw_only=True)
class DemoTargetSettings(HttpSettings):
    """`faults` allows PUT /_faults."""

    faults: bool = False


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(HttpSettings):
    """`max_in_flight` requests run at a time, each for `request_timeout_seconds` at most.

    The pool keeps `pool_maxsize` connections to a route's target, none idle for longer than
    `keepalive_seconds`. `user_agent`: of requests without one. `report_key_file`: of the tokens of
    reports; empty: unchecked. `max_agents`: the highest slot in reports. `operations_file`: see
    that module. `upload_file`: `upload.file` of the config in base64. `idle`: only runs.
    """

    config_file: str = "/etc/ape/gateway.json"
    pool_connections: PositiveCount = 10
    pool_maxsize: PositiveCount = 20
    keepalive_connections: PositiveCount = 50
    keepalive_seconds: Seconds = 5.0
    request_timeout_seconds: PositiveSeconds = 30.0
    max_in_flight: PositiveCount = 256
    user_agent: UserAgent = ""
    connections_per_address: PositiveCount = 1024
    report_key_file: str = ""
    max_agents: PositiveCount = 10_000
    operations_file: str = field(default="", metadata=LATER)
    idle: bool = field(default=False, metadata=LATER)
    upload_file: str = field(default="", metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class ProxySettings(HttpSettings):
    """The model and its limits; 0 requests, tokens or in flight: no limit.

    `most_tokens`, `most_dollars`: since the start of the proxy; "0" dollars: no limit.
    `agents_per_address`: agents of a container; 0: any number.
    `provider` names the profile, of which the fields from `tokens_field` to `echo` come, with the
    stack's own settings. `max_tokens` 0: no limit is sent. Without `key_header` the key is a bearer
    token. `request_timeout_seconds`: for a completion, with its queue and its retries.
    Prices are in dollars per million tokens; "0": unknown.
    """

    kind: ModelKind = "offline"
    provider: str = "cerebras"
    name: str = PROVIDERS["cerebras"].model
    base_url: Url = PROVIDERS["cerebras"].base_url
    api_key_file: str = ""
    key_header: str = ""
    headers: dict[str, Any] = field(default_factory=dict)
    ca_file: str = ""
    http_proxy: str = ""
    tokens_field: TokensField = "max_completion_tokens"
    max_tokens: Count = 0
    omit: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)
    echo: list[str] = field(default_factory=list)
    tool_choice: bool = True
    token_file: str = ""
    recording_file: str = ""
    record: bool = False
    requests_per_minute: Count = 0
    tokens_per_minute: Count = 0
    tokens_per_minute_per_agent: Count = 0
    agents_per_address: Count = 0
    most_tokens: Count = 0
    most_dollars: Price = "0"
    concurrency: Count = 0
    queue_seconds: PositiveSeconds = 20.0
    retries: Count = 2
    connect_seconds: PositiveSeconds = 10.0
    first_byte_seconds: PositiveSeconds = 60.0
    request_timeout_seconds: PositiveSeconds = 120.0
    input_price: Price = "0"
    output_price: Price = "0"


@dataclass(frozen=True, kw_only=True)
class SocketProxySettings(ServiceSettings):
    """`listen` and `docker_socket` are paths of Unix sockets. `logs` lets log reads pass.

    Answers are about the containers of `project` and `stack` only. `log_streams` may be open at a
    time, and OTHER_CONNECTIONS of all other kinds.
    """

    project: str = ""
    stack: str = ""
    listen: str = "/run/ape/docker.sock"
    docker_socket: str = "/var/run/docker.sock"
    logs: bool = False
    log_streams: PositiveCount = field(default=LOG_STREAMS, metadata=LATER)


@dataclass(frozen=True, kw_only=True)
class AgentSettings(ServiceSettings):
    """Settings of the agents of one container.

    `slot` is "B+N": the container is the N-th (from 1) of those that hold `agents_here` each, with
    B agents in the containers before them. "N" is "0+N". `test_duration_seconds` 0: until stopped.
    Without endpoints those of the gateway count. `target_host` is the target's host with its port
    and base path, as models write it in place of a path; empty: unknown. `redirects`: whether the
    agent follows them in the target, reports them to the model with their location, or without it
    ("off"). `report_seconds`: between two reports, where the gateway names none.
    `report_token_file`: see ape_contracts.report_token; empty: its variable has the token, or none.
    `sign_in`: steps of ape_contracts.sign_in, performed with those in `credentials_file`.
    `target_https`: cookies with Secure are sent. `stream`: the model is asked for streams.
    """

    gateway_url: Url
    proxy_url: Url
    goal: Text
    api: Text
    success: Annotated[dict[str, Any], _success]
    endpoints: Annotated[list[dict[str, Any]], _endpoints] = field(default_factory=list)
    slot: Annotated[
        str, _matches(r"(\d{1,9}\+)?[1-9]\d{0,8}", "is not two numbers, as in 250+3. Correct it.")
    ] = "1"
    agents_here: PositiveCount = 1
    persona: str = ""
    target_host: str = ""
    redirects: Redirects = field(default="follow", metadata=LATER)
    model_name: str = "ape-offline"
    token_file: str = ""
    report_token_file: str = ""
    test_duration_seconds: Seconds = 0.0
    session_max_steps: PositiveCount = 20
    session_max_seconds: Annotated[float, _at_least(1)] = 300.0
    think_time_seconds: Seconds = 1.0
    start_delay_seed: Seconds = 0.0
    ramp_seconds: Seconds = 10.0
    report_seconds: PositiveSeconds = 2.0
    heartbeat_file: str = "/tmp/heartbeat"  # noqa: S108 - a tmpfs of the container's own
    stop_grace_seconds: Seconds = 10.0
    request_timeout_seconds: PositiveSeconds = 35.0
    # For the proxy: more than it takes for a completion itself.
    model_timeout_seconds: PositiveSeconds = 125.0
    # Of the model's context; 0: unknown, and learned from its refusals.
    context_tokens: Count = 0
    sign_in: Annotated[list[dict[str, Any]], _sign_in] = field(default_factory=list, metadata=LATER)
    credentials_file: str = field(default="", metadata=LATER)
    target_https: bool = field(default=True, metadata=LATER)
    stream: bool = field(default=True, metadata=LATER)

    @property
    def slots(self) -> range:
        """The numbers of the agents of this container."""
        before, _, number = self.slot.rpartition("+")
        first = int(before or 0) + (int(number) - 1) * self.agents_here + 1
        return range(first, first + self.agents_here)


S = TypeVar("S", bound=ServiceSettings)

_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    str: ((str,), "text"),
    bool: ((bool,), "true or false"),
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    dict: ((dict,), "a JSON object"),
    list: ((list, tuple), "a list"),
}


@functools.cache
def _hints(kind: Any) -> dict[str, Any]:
    """Cached, since a preview may encode 2000 replicas."""
    return get_type_hints(kind, include_extras=True)


def _broken(hint: Any, value: Any) -> str:
    """What is wrong with a value, and what to do; empty: nothing."""
    rules: tuple[Rule, ...] = ()
    if get_origin(hint) is Annotated:
        hint, *rest = get_args(hint)
        rules = tuple(rest)
    if get_origin(hint) is Literal:
        allowed = get_args(hint)
        return "" if value in allowed else f"must be one of {', '.join(allowed)}. Correct it."
    types, words = _TYPES[get_origin(hint) or hint]
    # In Python True is a number; in JSON it is not.
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        return f"must be {words}. Correct it."
    return next((problem for rule in rules if (problem := rule(value))), "")


def _problems(kind: type[ServiceSettings], raw: Mapping[str, Any]) -> Iterator[str]:
    of: Any = kind  # mypy takes no dataclass for hashable
    hints = _hints(of)
    for name in raw.keys() - {each.name for each in fields(kind)}:
        yield f"{VARIABLE}.{name}: is not a setting of this service. Remove or correct it."
    for each in fields(kind):
        problem = ""
        if each.name not in raw:
            if each.default is MISSING and each.default_factory is MISSING:
                problem = "is missing. Add it."
        elif not isinstance(raw[each.name], Template):
            problem = _broken(hints[each.name], raw[each.name])
        if problem:
            yield f"{VARIABLE}.{each.name}: {problem}"


def _checked(kind: type[ServiceSettings], raw: Mapping[str, Any]) -> None:
    if problems := sorted(_problems(kind, raw)):
        raise ServiceSettingsError("\n".join(problems))


def json_text(value: Any) -> str:
    """JSON in which Swarm finds no template but those that are meant."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json_text(k)}: {json_text(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(json_text, value)) + "]"
    text = json.dumps(value, ensure_ascii=False)
    return text if isinstance(value, Template) else text.replace("{{", "{\\u007b")


def _default(each: Any) -> Any:
    return each.default_factory() if each.default is MISSING else each.default


def encode(settings: ServiceSettings) -> str:
    """The document of a service's settings, for one variable. Raises ServiceSettingsError."""
    raw = {
        each.name: getattr(settings, each.name)
        for each in fields(settings)
        if not each.metadata or getattr(settings, each.name) != _default(each)
    }
    _checked(type(settings), raw)
    try:
        text = json_text(raw)
    except RecursionError:
        raise ServiceSettingsError(f"{VARIABLE}: is nested too deeply. Cut it down.") from None
    size = variable_bytes(text)
    if size > MAX_VARIABLE_BYTES:
        longest = max(raw, key=lambda name: len(json_text(raw[name])))
        raise ServiceSettingsError(
            f"{VARIABLE}: has {-(-size // 1024)} KiB, most of them in {longest}, above the "
            f"{MAX_VARIABLE_BYTES >> 10} KiB that Linux allows a variable. Shorten it."
        )
    return text


def variable_bytes(text: str) -> int:
    """The size of the variable with a document."""
    return len(f"{VARIABLE}={text}\0".encode("utf-8", "replace"))


def decode(kind: type[S], text: str) -> S:
    """The settings of a document; what it does not name has its default.

    Raises ServiceSettingsError.
    """
    try:
        raw = json.loads(text)
    except (ValueError, RecursionError):
        raise ServiceSettingsError(f"{VARIABLE}: is not JSON. Correct it.") from None
    if not isinstance(raw, dict):
        raise ServiceSettingsError(f"{VARIABLE}: must be a JSON object. Correct it.")
    _checked(kind, raw)
    return kind(**raw)
