"""Checks of the model: whether the provider accepts the key, lists the model, and completes.

The provider's words are shown as they are, but short, and without the key.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import requests

from ape_contracts.providers import COMPLETIONS, MODELS, endpoint
from ape_contracts.service_settings import ProxySettings
from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config import provider
from ape_infra.config.addresses import from_this_machine, host_of
from ape_infra.config.project import config_key, current
from ape_infra.config.secrets import MODEL_API_KEY

TIMEOUT_SECONDS = 10.0
COMPLETION_SECONDS = 60.0
MAX_BYTES = 16 * 2**20
WORDS = 200
NAMES = 6
# Set for the updates of ape-load, which has checked the model itself: a rollback must not fail
# because the provider is not available.
CHECKED = "APE_MODEL_CHECKED"
# As those of the agents, but smaller.
PROMPT = "Reach the goal by calling the tool call_api.\n" + json.dumps(
    {"goal": "Open the start page.", "endpoints": [{"method": "GET", "path": "/"}]}
)
TOOL = {
    "type": "function",
    "function": {
        "name": "call_api",
        "description": "Send a request.",
        "parameters": {
            "type": "object",
            "properties": {"method": {"type": "string"}, "path": {"type": "string"}},
            "required": ["method", "path"],
        },
    },
}
# Their lists have models, while requests name a deployment.
_DEPLOYMENTS = (".azure.com",)
_NO_LIST = (404, 405, 501)
_KEY = (401, 403)


@dataclass(frozen=True)
class Reply:
    """The status and the body of an answer; status 0: none came, for the reason in `body`."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        try:
            return json.loads(self.body.decode("utf-8-sig"))
        except (ValueError, RecursionError):
            return None


@dataclass(frozen=True)
class Asked:
    """How to ask the provider, from this machine."""

    settings: ProxySettings
    key: str
    ca_file: str

    def send(self, method: str, path: str, body: Any = None, *, seconds: float) -> Reply:
        settings = self.settings
        headers = {str(name): str(value) for name, value in settings.headers.items()}
        if self.key:
            name, value = "Authorization", f"Bearer {self.key}"
            if settings.key_header:
                name, value = settings.key_header, self.key
            headers[name] = value
        http_proxy = from_this_machine(settings.http_proxy)
        with requests.Session() as session:
            # Neither a netrc, which replaces the key, nor the variables of HTTP proxies reach
            # the container.
            session.trust_env = False
            try:
                answer = session.request(
                    method,
                    from_this_machine(endpoint(settings.base_url, path)),
                    json=body,
                    headers=headers,
                    timeout=(TIMEOUT_SECONDS, seconds),
                    verify=self.ca_file or True,
                    proxies={"http": http_proxy, "https": http_proxy} if http_proxy else {},
                    allow_redirects=False,
                    stream=True,
                )
                content = b""
                for chunk in answer.iter_content(2**16):
                    content += chunk
                    if len(content) > MAX_BYTES:
                        break
            except (requests.RequestException, OSError, ValueError) as error:
                return Reply(0, type(error).__name__.encode())
        return Reply(answer.status_code, content)

    def words(self, reply: Reply) -> str:
        """Return the provider's own words, on one line and without the key."""
        found = message(reply)
        if self.key:
            found = found.replace(self.key, "***")
        return shortened(found)


def without_stream(reply: Reply) -> Reply:
    """Return what the events of an answer come to: an error, or a completion without its text."""
    choice: dict[str, Any] | None = None
    for line in reply.body.splitlines():
        event = Reply(200, line[5:]).json if line.startswith(b"data:") else None
        if not isinstance(event, dict):
            continue
        if event.get("error"):
            return Reply(reply.status, line[5:])
        for each in event.get("choices") or ():
            choice = choice or {"message": {}}
            if isinstance(each, dict) and each.get("finish_reason"):
                choice["finish_reason"] = each["finish_reason"]
    return Reply(200, json.dumps({"choices": [choice]}).encode()) if choice else reply


def message(reply: Reply) -> str:
    """Return the message in an error's body, in the forms of OpenAI and others, or its text."""
    found = reply.json
    for _ in range(3):
        if not isinstance(found, dict):
            break
        found = next((found[k] for k in ("error", "message", "detail") if found.get(k)), None)
    if isinstance(found, str):
        return found
    return re.sub(r"<[^>]*>", " ", reply.body[:5000].decode(errors="replace"))


def shortened(text: str, limit: int = WORDS) -> str:
    """Return text on one line, without control characters, and cut at the limit."""
    plain = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return plain if len(plain) <= limit else plain[: limit - 1] + "…"


def listed_names(reply: Reply) -> list[str]:
    """Return the names of the models in the answer of GET /models."""
    found = reply.json
    items = found.get("data") or found.get("models") if isinstance(found, dict) else found
    if not isinstance(items, list):
        return []
    ids = (item.get("id") or item.get("name") for item in items if isinstance(item, dict))
    return [name for name in ids if isinstance(name, str)]


def is_listed(name: str, names: Sequence[str]) -> bool:
    """Whether a provider that lists `names` serves `name`.

    Ollama lists tags, others the names without the suffix that selects a variant.
    """
    variants = (name, f"{name}:latest", f"models/{name}", name.partition(":")[0])
    return any(variant in names for variant in variants)


def _named(name: str, names: Sequence[str]) -> str:
    """Return some of the names, the most similar ones first."""
    close = difflib.get_close_matches(name, names, NAMES, 0.4)
    some = [*close, *(n for n in names if n not in close)][:NAMES]
    more = f" and {len(names) - len(some)} more" if len(names) > len(some) else ""
    return shortened(", ".join(some), 300) + more


def _asked(facts: Facts) -> Asked:
    model = facts.settings.model
    ca = str(current().root / model.ca_file) if model.ca_file else ""
    return Asked(provider.resolve(model), facts.api_key, ca)


def answers(facts: Facts) -> Iterator[Check]:
    """The provider must accept the key and list the model."""
    model = facts.settings.model
    if not model.is_remote:
        yield Check("key", "ok", f"the {model.kind} model needs no key.")
        return
    asked = _asked(facts)
    if facts.hides(asked.settings.base_url):
        yield Check("model", "unknown", "it runs on the Docker host, which is another machine.")
        return
    yield from judged(asked, asked.send("GET", MODELS, seconds=TIMEOUT_SECONDS))


def judged(asked: Asked, reply: Reply) -> Iterator[Check]:
    """The check results of the answer of GET /models."""
    url = endpoint(asked.settings.base_url, MODELS).partition("?")[0]
    status, name = reply.status, asked.settings.name
    if not status:
        yield Check("model", "fail", f"{url} does not answer ({asked.words(reply)}).", _unreached())
    elif status in _NO_LIST:
        yield Check(
            "model",
            "warn",
            f"{url} answers {status} ({asked.words(reply)}), so that the name {name} is not "
            "checked.",
            f"Check {config_key('modelBaseUrl')}, unless the provider has no list of models.",
        )
    elif status != 200:
        yield refused(asked, reply, url)
    else:
        if asked.key:
            yield Check("key", "ok", f"{url} accepts the key.")
        yield served(asked, listed_names(reply), url)


def served(asked: Asked, names: Sequence[str], url: str) -> Check:
    name, path = asked.settings.name, config_key("modelName")
    if not names:
        remedy = f"Check {config_key('modelBaseUrl')}, unless the provider lists no models."
        return Check("model", "warn", f"{url} lists no models.", remedy, path)
    if is_listed(name, names):
        return Check("model", "ok", f"{url} lists {name}.")
    if host_of(asked.settings.base_url).endswith(_DEPLOYMENTS):
        observed = f"is {name}; {url} lists models, and not deployments such as this one may be."
        return Check("model", "warn", observed, "Check the name of the deployment.", path)
    observed = f"is {name}, which {url} does not list. It has {_named(name, names)}."
    return Check("model", "fail", observed, "Set one of them.", path)


def refused(asked: Asked, reply: Reply, url: str) -> Check:
    """The check result of an answer that is not a success, in the provider's own words."""
    status = reply.status
    observed = f'{url} answers {status}: "{asked.words(reply)}".'
    if status in _KEY:
        if not asked.key:
            observed += " No key is set."
        command = f"pulumi config set --secret {config_key(MODEL_API_KEY)}"
        return Check("key", "fail", observed, f"Set another key: {command}")
    if status == 402:
        remedy = "Add credit at the provider; without it every session fails."
        return Check("model", "warn", observed, remedy)
    if status == 429:
        remedy = "A limit of the provider is used up. Wait, or raise it there."
        return Check("model", "warn", observed, remedy)
    remedies = {
        400: "Correct the settings of the model that the message names.",
        404: f"Correct {config_key('modelName')} or {config_key('modelBaseUrl')}.",
        422: f"Leave the field that the message names out: {config_key('modelOmit')}.",
    }
    other = "Try again later." if status >= 500 else _unreached()
    return Check("model", "fail", observed, remedies.get(status, other))


def _unreached() -> str:
    return (
        f"Check {config_key('modelBaseUrl')}, {config_key('modelCaFile')}, "
        f"{config_key('modelHttpProxy')} and the network."
    )


def probe_body(settings: ProxySettings, renamed: Mapping[str, str], stream: bool) -> dict[str, Any]:
    """Return a small completion request with the fields that the proxy sends for an agent."""
    body: dict[str, Any] = {
        "model": settings.name,
        "messages": [{"role": "system", "content": PROMPT}, {"role": "user", "content": "Begin."}],
        "tools": [TOOL],
    }
    if stream:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if settings.tool_choice:
        body["tool_choice"] = "required"
    body |= settings.parameters
    if settings.max_tokens and settings.tokens_field:
        body[settings.tokens_field] = settings.max_tokens
    return {renamed.get(k, k): v for k, v in body.items() if k not in settings.omit}


def completes(facts: Facts) -> Iterator[Check]:
    """The provider must take a small completion with a tool and the fields of the settings.

    A list of models needs no key and no credit at some providers, and checks no field anywhere.
    """
    if not facts.settings.model.is_remote:
        return
    asked = _asked(facts)
    if facts.hides(asked.settings.base_url):
        return
    url = endpoint(asked.settings.base_url, COMPLETIONS).partition("?")[0]
    chosen = facts.settings.model
    body = probe_body(asked.settings, provider.profile_of(chosen).renamed, chosen.stream)
    reply = asked.send("POST", COMPLETIONS, body, seconds=COMPLETION_SECONDS)
    if not reply.status:
        observed = f"{url} does not answer ({asked.words(reply)})."
        yield Check("completion", "warn", observed, _unreached())
    elif reply.status == 200:
        yield _completed(asked, without_stream(reply), url)
    else:
        found = refused(asked, reply, url)
        yield Check("completion", found.status, found.observed, found.remedy)


def _completed(asked: Asked, reply: Reply, url: str) -> Check:
    found = reply.json
    choices = found.get("choices") if isinstance(found, dict) else None
    first = choices[0] if isinstance(choices, list) and choices else None
    if not (isinstance(first, dict) and isinstance(first.get("message"), dict)):
        observed = f'{url} answers 200 without a message: "{asked.words(reply)}".'
        return Check("completion", "warn", observed, "Every session would fail with model_error.")
    if first.get("finish_reason") == "length":
        observed = f"{url} answers, but not within {asked.settings.max_tokens} tokens."
        remedy = f"Raise {config_key('modelMaxTokens')}."
        return Check("completion", "warn", observed, remedy)
    return Check("completion", "ok", f"{url} accepts the fields of the settings.")


def before_update(facts: Facts) -> Iterator[Check]:
    """In production, the key and the name must be right before anything changes.

    A provider that does not answer, or not with success, is only a warning here.
    """
    settings = facts.settings
    if not (settings.platform.production and settings.model.is_remote) or os.environ.get(CHECKED):
        return
    for check in answers(facts):
        definite = check.name == "key" or check.path
        yield (
            check
            if definite or check.status != "fail"
            else Check(check.name, "warn", check.observed, check.remedy)
        )
