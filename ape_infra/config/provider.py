"""The provider of a stack: its profile, completed by the settings of the model."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from ape_contracts.providers import MODELS, PROVIDERS, Provider, endpoint
from ape_contracts.service_settings import ProxySettings
from ape_infra.config.addresses import container_url_problems, on_docker_host
from ape_infra.config.errors import Problem, missing_secret
from ape_infra.config.model import ModelSettings
from ape_infra.config.project import config_key
from ape_infra.config.secrets import CEREBRAS_API_KEY, MODEL_API_KEY

CEREBRAS = "cerebras"
# Models that a provider no longer serves: (provider, name) -> date.
RETIRED = {(CEREBRAS, "llama-3.3-70b"): "2026-02-16"}
# An agent waits this much longer than the proxy takes for a completion at most.
AGENT_EXTRA_SECONDS = 5
_OFFLINE_NAME = "ape-offline"
_TOKEN_FIELDS = ("max_completion_tokens", "max_tokens")
# Fields of a request that are not a provider's to refuse.
_ESSENTIAL = ("messages", "model", "tools", "stream")
_KEY_HEADERS = ("authorization", "proxy-authorization", "api-key", "x-api-key")
_OWN_HEADERS = ("host", "content-type", "content-length", "transfer-encoding", "connection")
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def name_of(model: ModelSettings) -> str:
    return CEREBRAS if model.kind == "cerebras" else model.provider


def profile_of(model: ModelSettings) -> Provider:
    """Return the profile; an unknown name, which a rule refuses, has that of custom."""
    return PROVIDERS.get(name_of(model), PROVIDERS["custom"])


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value.is_integer() else value


def _parameters(model: ModelSettings) -> dict[str, Any]:
    """Return the fields of requests that the user set."""
    found: dict[str, Any] = {}
    if model.temperature not in ("", "auto", "default"):
        found["temperature"] = _number(model.temperature)
    if model.top_p:
        found["top_p"] = _number(model.top_p)
    if model.seed:
        found["seed"] = int(model.seed)
    if model.reasoning_effort:
        found["reasoning_effort"] = model.reasoning_effort
    return found | (model.body or {})


def resolve(model: ModelSettings) -> ProxySettings:
    """Return the proxy's settings of the model, without files: the user's own over the profile's.

    A field that the user set is sent, also where the profile leaves it out.
    """
    profile, own = profile_of(model), _parameters(model)
    omit = [*(name for name in profile.omit if name not in own), *model.omit]
    automatic = {"temperature": 0} if model.temperature == "auto" else {}
    parameters = automatic | profile.parameters | own
    return ProxySettings(
        kind="provider" if model.kind == "cerebras" else model.kind,
        provider=name_of(model),
        name=model.name or profile.model or _OFFLINE_NAME,
        # Only the offline and the recorded model allow none, and do not use it.
        base_url=model.base_url or profile.base_url or PROVIDERS[CEREBRAS].base_url,
        key_header=model.key_header,
        headers=model.headers or {},
        http_proxy=model.http_proxy,
        tokens_field=model.tokens_field or profile.tokens_field,
        max_tokens=model.max_tokens,
        omit=list(dict.fromkeys(omit)),
        parameters={name: value for name, value in parameters.items() if name not in omit},
        echo=list(profile.echo),
        tool_choice=profile.tool_choice and model.tool_choice == "auto",
        record=model.record,
        requests_per_minute=model.requests_per_minute,
        tokens_per_minute=model.tokens_per_minute,
        tokens_per_minute_per_agent=model.tokens_per_minute_per_agent,
        most_tokens=model.most_tokens,
        most_dollars=model.most_dollars,
        concurrency=model.concurrency,
        queue_seconds=min(model.queue_seconds, model.timeout_seconds),
        retries=model.retries,
        connect_seconds=min(model.connect_seconds, model.timeout_seconds),
        first_byte_seconds=min(model.first_byte_seconds, model.timeout_seconds),
        request_timeout_seconds=model.timeout_seconds,
        input_price=model.input_price,
        output_price=model.output_price,
    )


def key_secret(model: ModelSettings, secrets: Collection[str]) -> str:
    """Return the name of the secret that holds the model's key; empty: none is set."""
    if MODEL_API_KEY in secrets:
        return MODEL_API_KEY
    if name_of(model) == CEREBRAS and CEREBRAS_API_KEY in secrets:
        return CEREBRAS_API_KEY
    return ""


def key_note(model: ModelSettings, secrets: Collection[str]) -> str:
    """Return a sentence about a key that is set and not used; empty: none is."""
    used = key_secret(model, secrets)
    if CEREBRAS_API_KEY not in secrets or used == CEREBRAS_API_KEY:
        return ""
    reason = (
        f"{MODEL_API_KEY} is set, too" if used else f"the provider of the model is {name_of(model)}"
    )
    return f"{CEREBRAS_API_KEY} is not used, because {reason}."


def is_billed(model: ModelSettings, secrets: Collection[str]) -> bool:
    """Whether the provider bills its tokens, as far as the settings show."""
    if not model.is_remote or on_docker_host(model.base_url):
        return False
    # A key alone proves nothing of a server of one's own.
    has_price = any(float(price) for price in (model.input_price, model.output_price))
    custom = name_of(model) == "custom" and bool(key_secret(model, secrets))
    return profile_of(model).needs_key or has_price or custom


def spending(
    model: ModelSettings, secrets: Collection[str], *, production: bool
) -> Iterator[Problem]:
    """Each broken rule of the spend limits."""
    limits = [
        name
        for name, set_ in (
            ("maxTokens", model.most_tokens),
            ("maxCostDollars", float(model.most_dollars)),
        )
        if set_
    ]
    if production and not limits and not model.allow_unlimited_spending:
        if is_billed(model, secrets):
            command = f"pulumi config set {config_key('maxTokens')} 10000000"
            yield (
                "maxTokens",
                f"is 0, and so is maxCostDollars, but production is true and provider "
                f"{name_of(model)} bills its tokens. Set the most that the test may use: "
                f"{command}; or set allowUnlimitedSpending to true.",
            )
    priced = all(float(price) for price in (model.input_price, model.output_price))
    if "maxCostDollars" in limits and not priced:
        yield (
            "maxCostDollars",
            f"is {model.most_dollars}, but the prices are not known. Set modelInputPrice and "
            "modelOutputPrice, or set maxTokens instead.",
        )
    tokens_field = model.tokens_field or profile_of(model).tokens_field
    if limits and model.is_remote and not (model.max_tokens and tokens_field):
        yield (
            "modelMaxTokens",
            f"is 0, but {limits[0]} is set, and a request without a limit could exceed it. Set "
            "modelMaxTokens to 4096, for example.",
        )


def problems(model: ModelSettings, secrets: Collection[str], *, swarm: bool) -> Iterator[Problem]:
    """Each broken rule of the provider's settings."""
    if model.kind == "cerebras" and model.provider != CEREBRAS:
        yield (
            "model",
            f"is cerebras, but provider is {model.provider}. Set model to provider, or remove "
            "provider.",
        )
    if model.provider not in PROVIDERS:
        yield "provider", f'is "{model.provider}"; must be one of {", ".join(PROVIDERS)}.'
        return
    if model.is_remote:
        yield from _required(model, secrets)
    yield from _urls(model, swarm=swarm)
    yield from _fields(model)
    yield from _headers(model)


def _required(model: ModelSettings, secrets: Collection[str]) -> Iterator[Problem]:
    provider, profile = name_of(model), profile_of(model)
    if not (model.base_url or profile.base_url):
        yield (
            "modelBaseUrl",
            f"is empty, but provider {provider} has no default. Set the base URL of the API, such "
            "as http://host.docker.internal:8000/v1 for a server on the Docker host.",
        )
    if not (model.name or profile.model):
        yield (
            "modelName",
            f"is empty, but provider {provider} has no default. Set the name of a model that "
            "GET /models of the provider lists.",
        )
    date = RETIRED.get((provider, model.name))
    if date and model.base_url in ("", profile.base_url):
        yield (
            "modelName",
            f"is {model.name}, which {provider} retired on {date}. Remove the setting, which makes "
            f"it {profile.model}, or set another.",
        )
    if profile.needs_key and not key_secret(model, secrets):
        secret = CEREBRAS_API_KEY if model.kind == "cerebras" else MODEL_API_KEY
        yield missing_secret(secret, f"provider {provider} asks for a key")


def _urls(model: ModelSettings, *, swarm: bool) -> Iterator[Problem]:
    if model.base_url:
        found = container_url_problems(
            "modelBaseUrl",
            model.base_url,
            "such as https://api.cerebras.ai/v1",
            credentials=f"Remove them, and set the secret {MODEL_API_KEY}.",
            swarm=swarm,
        )
        yield from found
        if not found:
            try:
                endpoint(model.base_url, MODELS)
            except ValueError as error:
                yield "modelBaseUrl", str(error)
    elif swarm and model.is_remote:
        # Only a profile's own address on the Docker host can be wrong.
        url = profile_of(model).base_url
        for _, sentence in container_url_problems("", url, "", credentials="", swarm=True):
            yield "modelBaseUrl", f"is empty, so that it is {url}. It {sentence}"
    if model.http_proxy:
        yield from container_url_problems(
            "modelHttpProxy",
            model.http_proxy,
            "or leave it empty",
            credentials="Use an HTTP proxy that needs no login.",
            swarm=swarm,
        )


def _fields(model: ModelSettings) -> Iterator[Problem]:
    for name in model.omit:
        if name in _ESSENTIAL:
            yield "modelOmit", f"has {name}, without which no provider answers. Remove it."
    for name in model.body or {}:
        if name in _ESSENTIAL:
            yield f"modelBody.{name}", "is set by the agents and by modelName. Remove it."
        elif name in _TOKEN_FIELDS:
            yield f"modelBody.{name}", "has settings of its own. Set modelMaxTokens, and remove it."
    try:
        json.dumps(model.body, allow_nan=False)
    except ValueError:
        yield "modelBody", "has a number that is not finite. Correct it."


def _headers(model: ModelSettings) -> Iterator[Problem]:
    key = model.key_header.lower()
    if key in _OWN_HEADERS:
        yield "modelKeyHeader", f"is {model.key_header}, which the proxy sets itself. Correct it."
    for name, value in (model.headers or {}).items():
        path = f"modelHeaders.{name}"
        if name.lower() in (*_KEY_HEADERS, key):
            yield (
                path,
                "carries a key, which would be readable. Remove it, and set the secret "
                f"{MODEL_API_KEY}; modelKeyHeader names another header than Authorization.",
            )
        elif name.lower() in _OWN_HEADERS:
            yield path, "is a header that the proxy sets itself. Remove it."
        elif not _HEADER_NAME.fullmatch(name) or not value.isprintable() or not value.isascii():
            yield (
                path,
                "is not a header. Use names such as X-Title, and printable ASCII values on one "
                "line.",
            )
