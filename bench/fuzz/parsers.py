"""The parsers of files and answers, each as a function of bytes.

With atheris (which is not installed here: `pip install atheris` into another environment), one of
them is fuzzed along the branches that it takes:

    python -m bench.fuzz.parsers openapi -runs=100000
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from ape_contracts import conditions, gateway_config, recording
from ape_contracts.service_settings import (
    AgentSettings,
    GatewaySettings,
    ProxySettings,
    ServiceSettingsError,
    decode,
    encode,
)
from ape_infra.config import imports, openapi
from ape_infra.config.errors import SettingsError
from ape_infra.config.gateway_import import GatewayImportError, convert
from ape_infra.config.parsing import parse_config
from ape_proxy.errors import ProxyError
from ape_proxy.recording import Recorded, Recorder
from bench.fuzz import recordings, ways
from bench.fuzz.values import mutated
from monitoring import cgroups, model, system

MAX_SECONDS = 1.0
# Python's own limit.
USUAL_DEPTH = 1000


@dataclass(frozen=True)
class Parser:
    """`known`: the errors by which it rejects a text."""

    read: Callable[[bytes], object]
    known: tuple[type[Exception], ...]
    texts: st.SearchStrategy[bytes]


class NotText(Exception):
    """The bytes are not what a parser is given."""


def _text(raw: bytes) -> str:
    """As read_file reads files."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise NotText from None


def _json(raw: bytes) -> Any:
    try:
        return json.loads(_text(raw))
    except (ValueError, RecursionError):
        raise NotText from None


@contextmanager
def _usual_depth() -> Iterator[None]:
    """As many calls inside each other as in a service; Hypothesis allows more."""
    frame, depth, before = sys._getframe(), 0, sys.getrecursionlimit()
    while frame.f_back is not None:
        frame, depth = frame.f_back, depth + 1
    sys.setrecursionlimit(depth + USUAL_DEPTH)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def broken(parser: Parser, text: bytes) -> str:
    """The rule that the parser breaks with this text; empty: none."""
    started = time.process_time()
    try:
        with _usual_depth():
            parser.read(text)
    except Exception as error:
        if isinstance(error, (*parser.known, NotText)):
            return ""
        at = error.__traceback__
        while at and at.tb_next:
            at = at.tb_next
        where = f"{at.tb_frame.f_code.co_qualname}:{at.tb_lineno}" if at else ""
        return f"{type(error).__name__} in {where}"
    seconds = time.process_time() - started
    return f"took more than {MAX_SECONDS:g} s" if seconds > MAX_SECONDS else ""


_CONDITION = {
    "method": "POST",
    "path": "/orders/{id}",
    "status": 201,
    "value_path": "order.items[0].id",
    "checks": [{"value_path": "$.a[*]['b']", "equals": 1}, {"text": "ok"}],
    "also": [{"method": "GET", "path": "/", "status": 200, "value_path": "x", "matches": "a+"}],
}
_BODIES: tuple[Any, ...] = ({"order": {"items": [{"id": 1}]}, "a": [{"b": 1}]}, ["ok"], "ok")


def _conditions(raw: bytes) -> None:
    given = _json(raw)
    for condition in conditions.parse(given):
        for body in (*_BODIES, given):
            for part in condition.body:
                part.holds(body)


_GATEWAY = {
    "logging": {"level": "INFO", "format": "json"},
    "routes": {
        "shop": {
            "name": "Shop",
            "description": "d",
            "base_url": "http://shop:8080/api",
            "timeout": 30,
            "headers": {"X-Key": "k"},
            "auth": {"type": "bearer", "token": "t"},
            "retry": {"attempts": 2},
            "health_check": {"enabled": True, "path": "/health"},
            "passTargetStatus": True,
            "endpoints": [{"path": "/a/{id}", "methods": ["GET"], "rateLimit": 5}],
        }
    },
}
_AGENT = AgentSettings(
    gateway_url="http://gateway:8080",
    proxy_url="http://proxy:8080",
    goal="g",
    api="shop",
    success=_CONDITION,
    endpoints=[{"method": "GET", "path": "/"}],
)
_DOCUMENTS = (GatewaySettings(), ProxySettings(headers={"a": "b"}, parameters={"top_p": 1}), _AGENT)


def _settings(raw: bytes) -> None:
    text = _text(raw)
    for made in _DOCUMENTS:
        try:
            encode(decode(type(made), text))
        except ServiceSettingsError:
            pass


_SCHEMA = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "id": {"type": "integer", "readOnly": True, "minimum": 1},
        "name": {"type": "string", "example": "n", "pattern": "^a+$"},
        "boss": {"$ref": "#/components/schemas/User"},
        "pet": {"oneOf": [{"type": "null"}, {"allOf": [{"enum": [1, "a"]}]}]},
    },
}
_OPENAPI = {
    "openapi": "3.1.0",
    "info": {"title": "t", "version": "1"},
    "servers": [{"url": "https://h.example/{v}", "variables": {"v": {"default": "v1"}}}],
    "paths": {
        "/users/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "example": 7}],
            "get": {
                "operationId": "user",
                "parameters": [
                    {"name": "q", "in": "query", "style": "deepObject", "schema": _SCHEMA}
                ],
                "security": [{"key": []}],
                "responses": {"200": {"headers": {"ETag": {"schema": {}}}}},
            },
            "put": {
                "requestBody": {
                    "content": {
                        "application/json": {"schema": {"$ref": "#/components/schemas/User"}}
                    }
                }
            },
        }
    },
    "components": {
        "schemas": {"User": _SCHEMA},
        "securitySchemes": {"key": {"type": "apiKey", "in": "header", "name": "k"}},
    },
}
_YAML = b"""openapi: "3.0.0"
info: {title: t, version: 1}
paths:
  /a/{id}: &item
    get: {summary: "x", parameters: [{name: id, in: path, required: true}]}
  /b: *item
  /c: {<<: *item, post: {requestBody: {content: {text/plain: {schema: {type: string}}}}}}
"""


@st.composite
def _spoiled(draw: Any, text: bytes) -> bytes:
    """A text with some of its bytes changed, cut, or repeated."""
    for _ in range(draw(st.integers(0, 4))):
        at, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
        kind = draw(st.integers(0, 3))
        if kind == 0:
            text = text[:at] + text[at + length :]
        elif kind == 1:
            text = text[:at] + draw(st.binary(max_size=6)) + text[at + length :]
        elif kind == 2:
            text = text[:at] + text[at : at + length] * 50 + text[at:]
        else:
            text = text[:at] + draw(st.sampled_from(_PIECES)) + text[at:]
    return text


_PIECES = (
    *(b"&a ", b"*a", b"<<: *item", b"!!python/object:os.system x", b"- " * 300, b"[" * 3000),
    *(b"\t", b"\r", b"\0", b"\xff", b": ", b"#", b"|", b"%YAML 1.1\n", b"---\n", b"0o17", b".inf"),
    *(b"1" * 5000, b"max", b"-1", b"\n\n", b"=", b"{{", b"${x}", b'"'),
)
_KEY = "0" * 64
_ANSWER = {"id": "x", "choices": [{"index": 0, "message": {"role": "assistant", "content": "c"}}]}


def _recording(raw: bytes) -> None:
    answers = recording.load(_text(raw))
    for completion in answers.values():
        Recorder().add({"messages": []}, completion)
    try:
        Recorded("m", answers).complete({"messages": [{"content": "agent-0007"}]})
    except ProxyError:
        pass


def _requests(raw: bytes) -> None:
    """The requests that a recording is made of."""
    body = _json(raw)
    if isinstance(body, dict):
        Recorder().add(body, body)


_STACK = {
    "agents": "60",
    "agentsPerContainer": "20",
    "thinkTimeSeconds": "1.5",
    "tiers": '[{"agents": 100, "memoryMb": 256}]',
    "target": "http://host.docker.internal:9000",
    "targetGoal": "g",
    "targetEndpoints": '[{"method": "GET", "path": "/a/{id}", "description": "d"}]',
    "targetSuccess": json.dumps(_CONDITION),
    "model": "provider",
    "modelApiKey": "k",
    "modelBaseUrl": "https://h.example/v1",
    "modelHeaders": '{"a": "b"}',
    "modelBody": '{"top_k": 1}',
    "modelTemperature": "0.5",
    "modelOmit": '["seed"]',
    "modelInputPrice": "0.85",
    "observabilityParts": '["grafana"]',
    "alertThresholds": '{"cpu": 90}',
    "alertOverrides": '{"AgentsMissing": {"for": "1m"}}',
    "images": '{"gateway": "r.example/gateway:1"}',
    "networkPool": "10.213.0.0/16",
    "exposeAddress": "127.0.0.1",
    "gatewayPort": "8080",
    "runtime": "swarm",
    "production": "true",
}


def _stack(raw: bytes) -> None:
    given = _json(raw)
    if not isinstance(given, dict):
        raise NotText
    # Pulumi hands over texts.
    parse_config({k: v if isinstance(v, str) else json.dumps(v) for k, v in given.items()})


_INSPECTED = {
    "Id": "c" * 64,
    "Name": "/ape-dev-agent-0001",
    "RestartCount": 0,
    "State": {
        "Status": "exited",
        "Pid": 1,
        "StartedAt": "2026-01-02T03:04:05.678901234Z",
        "ExitCode": 0,
        "Health": {"Status": "healthy"},
    },
    "Config": {
        "Labels": {"ape.project": "ape", "ape.stack": "dev", "ape.service": "agent"},
        "Env": ['APE_SETTINGS={"slot": "5+2"}', "A=b"],
    },
    "HostConfig": {"NetworkMode": "net"},
    "NetworkSettings": {
        "Networks": {"net": {}},
        "Ports": {"8080/tcp": [{"HostIp": "::", "HostPort": "1"}]},
    },
}


def _environment(raw: bytes) -> None:
    """What a container can name itself: labels and environment are texts, as Docker has it."""
    given = _json(raw)
    config = given.get("Config") if isinstance(given, dict) else None
    labels = config.get("Labels") if isinstance(config, dict) else None
    env = config.get("Env") if isinstance(config, dict) else None
    own = {str(k): str(v) for k, v in labels.items()} if isinstance(labels, dict) else {}
    texts = [str(item) for item in env] if isinstance(env, list) else []
    model.from_inspect(_INSPECTED | {"Config": {"Labels": own, "Env": texts}})


_KERNEL = b"""usage_usec 120000\nnr_periods 5\nnr_throttled 1\noom_kill 0\n
8:0 Read 4096\n8:0 Write 512\nTotal 4608\n8:0 rbytes=1 wbytes=2\n50000 100000\nmax\n
Inter-|   Receive\n face |bytes packets\n  eth0: 1 2 3 4 5 6 7 8 9 10 11\n
some avg10=0.00 avg60=1.5 total=3\n0::/docker/abc\n12:cpu,cpuacct:/x\n"""


def _kernel(raw: bytes) -> None:
    """Files of the kernel, whose numbers are numbers."""
    text = raw.decode("ascii", "replace")
    cgroups.blkio_v1(raw)
    cgroups.io_v2(raw)
    cgroups.net_dev(raw)
    cgroups.limit_v2(raw)
    cgroups.cpu_max_v2(raw)
    cgroups.field(raw, b"usage_usec")
    system.own_traffic(raw)
    system.pressure(text)
    cgroups.proc_cgroup(text)


PARSERS: dict[str, Parser] = {
    "conditions": Parser(
        _conditions, (conditions.ConditionError,), mutated((_CONDITION, _CONDITION["also"]))
    ),
    "gateway-config": Parser(
        lambda raw: gateway_config.load(_text(raw)),
        (gateway_config.GatewayConfigError,),
        mutated((_GATEWAY,)),
    ),
    "gateway-import": Parser(
        lambda raw: convert(_text(raw)), (GatewayImportError,), mutated((_GATEWAY,))
    ),
    "imports": Parser(
        recordings.read,
        (imports.ImportProblem, openapi.OpenApiError),
        st.one_of(mutated((recordings.HAR, recordings.POSTMAN)), _spoiled(recordings.CURL)),
    ),
    "settings": Parser(
        _settings,
        (ServiceSettingsError,),
        mutated(tuple(json.loads(encode(made)) for made in _DOCUMENTS)),
    ),
    "openapi": Parser(
        openapi.read,
        (openapi.OpenApiError,),
        st.one_of(mutated((_OPENAPI,)), _spoiled(_YAML), _spoiled(json.dumps(_OPENAPI).encode())),
    ),
    "recording": Parser(
        _recording,
        (recording.RecordingError,),
        st.lists(mutated(({"key": _KEY, "completion": _ANSWER},)), min_size=1, max_size=3).map(
            b"\n".join
        ),
    ),
    "recorded": Parser(_requests, (), mutated(ways.PROXY[0].templates)),
    "stack-config": Parser(_stack, (SettingsError,), mutated((_STACK,))),
    "monitor-names": Parser(_environment, (), mutated((_INSPECTED,))),
    "monitor-kernel": Parser(_kernel, (ValueError, IndexError), _spoiled(_KERNEL)),
}


def main() -> None:
    atheris = importlib.import_module("atheris")
    name = sys.argv.pop(1)

    def one(text: bytes) -> None:
        if rule := broken(PARSERS[name], text):
            raise AssertionError(rule)

    atheris.instrument_all()
    atheris.Setup(sys.argv, one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
