"""The checks of the model, against a provider that answers on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ape_contracts.providers import PROVIDERS
from ape_infra.checks import model, preflight
from ape_infra.checks import settings as settings_checks
from ape_infra.checks.check import Check
from ape_infra.checks.facts import Facts
from ape_infra.config.parsing import parse
from ape_infra.config.provider import resolve
from ape_infra.config.secrets import SECRETS

pytestmark = pytest.mark.unit
KEY = "sk-0123456789-secret"
LISTED = {"object": "list", "data": [{"id": "gpt-oss-120b"}, {"id": "qwen-3.8-27b"}]}

EVENTS = (
    b'data: {"choices": [{"delta": {"content": "Done."}}]}\n\n: wait\n\n'
    b'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
)
COMPLETION = {"choices": [{"message": {"content": "Done."}, "finish_reason": "stop"}]}


class Provider(ThreadingHTTPServer):
    """Answers each path with (status, body), and keeps what it was sent."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: dict[str, tuple[int, Any]] = {}
        self.seen: list[tuple[str, dict[str, str], Any]] = []

    @property
    def url(self) -> str:
        # As the settings name a server on the Docker host.
        return f"http://host.docker.internal:{self.server_address[1]}/v1"

    def answers(self, path: str, status: int, body: Any) -> None:
        self.replies[f"/v1{path}"] = status, body


class Handler(BaseHTTPRequestHandler):
    server: Provider

    def do_GET(self) -> None:
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.seen.append((self.path, headers, json.loads(content or "null")))
        status, body = self.server.replies.get(self.path.partition("?")[0], (404, "none"))
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(sent)))
        self.end_headers()
        self.wfile.write(sent)

    do_POST = do_GET  # noqa: N815 - the name that the base class calls

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def provider(monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.delenv(model.CHECKED, raising=False)
    with Provider() as made:
        made.answers("/models", 200, LISTED)
        made.answers("/chat/completions", 200, COMPLETION)
        thread = threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def facts(server: Provider, key: str = KEY, **settings: str) -> Facts:
    given = {"model": "provider", "modelBaseUrl": server.url} | settings
    return Facts(parse(given, SECRETS), "ape", "dev", api_key=key)


def one(checks: Iterator[Check], name: str = "model") -> Check:
    (found,) = (check for check in checks if check.name == name)
    return found


@pytest.mark.parametrize(
    "settings", [{"model": "offline"}, {"model": "recorded", "modelRecording": "x"}]
)
def test_a_model_of_the_project_asks_nobody(settings: dict[str, str], provider: Provider) -> None:
    found = facts(provider, **settings)
    assert [check.status for check in model.answers(found)] == ["ok"]
    assert list(model.completes(found)) == list(model.before_update(found)) == []
    assert provider.seen == []


def test_a_listed_model_passes_with_the_key(provider: Provider) -> None:
    checks = list(model.answers(facts(provider)))
    assert [(check.name, check.status) for check in checks] == [("key", "ok"), ("model", "ok")]
    assert provider.seen[0][1]["authorization"] == f"Bearer {KEY}"


def test_the_request_has_the_headers_the_query_and_the_key_header_of_the_settings(
    provider: Provider,
) -> None:
    found = facts(
        provider,
        modelBaseUrl=f"{provider.url}?api-version=2024-10-21",
        modelKeyHeader="api-key",
        modelHeaders='{"X-Team": "load"}',
    )
    assert one(model.answers(found)).status == "ok"
    path, headers, _ = provider.seen[0]
    assert path == "/v1/models?api-version=2024-10-21"
    assert (headers["api-key"], headers["x-team"]) == (KEY, "load")
    assert "authorization" not in headers


def test_no_key_is_sent_where_none_is_set(provider: Provider) -> None:
    found = facts(provider, key="", provider="ollama", modelName="gpt-oss-120b")
    assert [check.name for check in model.answers(found)] == ["model"]
    assert "authorization" not in provider.seen[0][1]


def test_a_model_that_is_not_listed_fails_and_similar_ones_are_named(provider: Provider) -> None:
    check = one(model.answers(facts(provider, modelName="gpt-oss-20b")))
    assert check.status == "fail"
    assert check.text.startswith("ape:modelName: is gpt-oss-20b, which http://host.docker.")
    assert "does not list. It has gpt-oss-120b, qwen-3.8-27b." in check.text


@pytest.mark.parametrize(
    ("name", "body", "status"),
    [
        ("llama3.1", {"data": [{"id": "llama3.1:latest"}]}, "ok"),
        ("llama3.1:8b", {"data": [{"id": "llama3.1:latest"}]}, "fail"),
        ("a/b:nitro", {"data": [{"id": "a/b"}]}, "ok"),
        ("gemini-3", {"data": [{"id": "models/gemini-3"}]}, "ok"),
        ("m", [{"id": "m"}], "ok"),
        ("m", {"models": [{"name": "m"}]}, "ok"),
        ("m", {"data": []}, "warn"),
        ("m", {"data": None}, "warn"),
        ("m", {"data": [{"id": 3}, "x", None]}, "warn"),
        ("m", b"<html>Sign in</html>", "warn"),
        ("m", {"data": [{"id": f"model-{n}"} for n in range(1000)]}, "fail"),
    ],
)
def test_a_name_is_looked_up_in_the_forms_of_lists(
    name: str, body: Any, status: str, provider: Provider
) -> None:
    provider.answers("/models", 200, body)
    check = one(model.answers(facts(provider, modelName=name)))
    assert check.status == status
    assert len(check.observed) < 400


@pytest.mark.parametrize(
    ("code", "name", "status", "remedy"),
    [
        (400, "model", "fail", "Correct the settings"),
        (401, "key", "fail", "pulumi config set --secret ape:modelApiKey"),
        (402, "model", "warn", "Add credit"),
        (403, "key", "fail", "pulumi config set --secret ape:modelApiKey"),
        (404, "model", "warn", "ape:modelBaseUrl"),
        (405, "model", "warn", "ape:modelBaseUrl"),
        (422, "model", "fail", "ape:modelOmit"),
        (429, "model", "warn", "Wait"),
        (500, "model", "fail", "later"),
    ],
)
def test_a_refusal_is_shown_in_the_providers_own_words(
    code: int, name: str, status: str, remedy: str, provider: Provider
) -> None:
    words = f"Wrong thing with {KEY}\n" + "x" * 1000
    provider.answers("/models", code, {"error": {"message": words, "code": code}})
    check = one(model.answers(facts(provider)), name)
    assert check.status == status
    assert remedy in check.remedy
    assert f"answers {code}" in check.observed
    assert "Wrong thing with *** xxx" in check.observed
    assert KEY not in check.text
    assert len(check.observed) < 400


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "No."}}, "No."),
        ({"error": "No."}, "No."),
        ({"message": "No.", "type": "x"}, "No."),
        ({"detail": "No."}, "No."),
        ({"object": "error", "message": "No.", "code": 40}, "No."),
        (b"<html><h1>502</h1>\x00Bad</html>", "502 Bad"),
        (b"", ""),
        (b"\xff\xfe", "\ufffd\ufffd"),
        ({"detail": [{"loc": ["a"]}]}, '{"detail": [{"loc": ["a"]}]}'),
    ],
)
def test_words_are_found_in_every_form_of_an_error(body: Any, words: str) -> None:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert model.shortened(model.message(model.Reply(500, sent))) == words


def test_a_provider_that_does_not_answer_fails_with_the_settings_of_the_way(
    provider: Provider,
) -> None:
    closed = facts(provider, modelBaseUrl="http://host.docker.internal:1/v1")
    check = one(model.answers(closed))
    assert (check.status, "ape:modelHttpProxy" in check.remedy) == ("fail", True)
    assert "does not answer (ConnectionError)" in check.observed
    proxied = facts(provider, modelHttpProxy="http://host.docker.internal:1")
    assert "does not answer (ProxyError)" in one(model.answers(proxied)).observed


def test_a_deployment_is_not_refused_for_a_list_of_models(provider: Provider) -> None:
    found = parse(
        {"model": "provider", "modelBaseUrl": "https://x.openai.azure.com/openai/v1"}, SECRETS
    )
    asked = model.Asked(resolve(found.model), KEY, "")
    assert model.served(asked, ["gpt-5"], asked.settings.base_url).status == "warn"


def test_a_docker_host_that_is_another_machine_is_not_asked(provider: Provider) -> None:
    found = facts(provider, dockerHost="ssh://me@192.0.2.1")
    assert one(model.answers(found)).status == "unknown"
    assert list(model.completes(found)) == []
    assert provider.seen == []


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_small_completion_has_the_fields_of_the_settings(name: str, provider: Provider) -> None:
    own = {
        "modelSeed": "7",
        "modelTopP": "0.9",
        "modelOmit": '["parallel_tool_calls", "tool_choice"]',
    }
    found = facts(provider, provider=name, modelName="m", **own)
    assert one(model.completes(found), "completion").status == "ok"
    path, _, body = provider.seen[0]
    profile = PROVIDERS[name]
    assert path == "/v1/chat/completions"
    assert (body["model"], body[profile.tokens_field]) == ("m", 4096)
    assert body["tools"][0]["function"]["name"] == "call_api"
    assert "tool_choice" not in body
    assert (body[profile.renamed.get("seed", "seed")], body["top_p"]) == (7, 0.9)
    assert ("temperature" in body) != ("temperature" in profile.omit)


@pytest.mark.parametrize("name", PROVIDERS)
def test_a_call_is_required_where_the_provider_takes_that(name: str, provider: Provider) -> None:
    list(model.completes(facts(provider, provider=name, modelName="m")))
    body = provider.seen[0][2]
    assert (body.get("tool_choice") == "required") == PROVIDERS[name].tool_choice


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({}, {"stream", "stream_options"}),
        ({"modelOmit": '["stream_options"]'}, {"stream"}),
        ({"modelStream": "false"}, set()),
    ],
)
def test_a_stream_is_asked_for_as_agents_do(
    changed: dict[str, str], fields: set[str], provider: Provider
) -> None:
    provider.answers("/chat/completions", 200, EVENTS)
    assert one(model.completes(facts(provider, **changed)), "completion").status == "ok"
    assert {"stream", "stream_options"} & provider.seen[0][2].keys() == fields


@pytest.mark.parametrize(
    ("code", "status"), [(400, "fail"), (402, "warn"), (422, "fail"), (404, "fail")]
)
def test_a_refused_completion_is_named_before_a_test(
    code: int, status: str, provider: Provider
) -> None:
    provider.answers("/chat/completions", code, {"detail": "Extra inputs are not permitted"})
    check = one(model.completes(facts(provider)), "completion")
    assert check.status == status
    assert "Extra inputs are not permitted" in check.observed


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": {"message": "Provider returned error"}}, "Provider returned error"),
        ({"choices": []}, "without a message"),
        ({"choices": [{"message": None}]}, "without a message"),
        (b"<html>Sign in</html>", "Sign in"),
        ({"choices": [{"message": {}, "finish_reason": "length"}]}, "not within 4096 tokens"),
        (b'data: {"error": {"message": "no streams"}}\n\ndata: [DONE]\n\n', "no streams"),
        (EVENTS.replace(b"stop", b"length"), "not within 4096 tokens"),
        (b": wait\n\ndata: [DONE]\n\n", "without a message"),
    ],
)
def test_a_completion_that_no_session_could_use_warns(
    body: Any, words: str, provider: Provider
) -> None:
    provider.answers("/chat/completions", 200, body)
    check = one(model.completes(facts(provider)), "completion")
    assert check.status == "warn"
    assert words in check.observed


@pytest.mark.parametrize(
    ("code", "body", "statuses"),
    [
        (200, LISTED, ["ok", "ok"]),
        (200, {"data": [{"id": "other"}]}, ["ok", "fail"]),
        (401, {}, ["fail"]),
        (500, {}, ["warn"]),
    ],
)
def test_an_update_in_production_is_refused_only_for_the_key_or_the_name(
    code: int, body: Any, statuses: list[str], provider: Provider
) -> None:
    provider.answers("/models", code, body)
    found = facts(provider, production="true")
    assert [check.status for check in model.before_update(found)] == statuses
    assert model.before_update in preflight.BEFORE_UPDATE
    assert list(model.before_update(facts(provider))) == [], "not in production"


def test_an_update_of_ape_load_does_not_ask_again(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(model.CHECKED, "1")
    assert list(model.before_update(facts(provider, production="true"))) == []


def test_a_file_of_the_model_that_cannot_be_read_fails(provider: Provider, tmp_path: Any) -> None:
    found = facts(provider, modelCaFile="none.pem").settings
    (check,) = settings_checks.model_files(found, tmp_path)
    assert check.status == "fail"
    assert "ape:modelCaFile: " in check.text
    assert list(settings_checks.model_files(facts(provider).settings, tmp_path)) == []


@pytest.fixture
def netrc(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def write() -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password other\n")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")

    return write


def test_the_users_netrc_and_proxy_variables_do_not_count(
    provider: Provider, netrc: Callable[[], None]
) -> None:
    netrc()
    assert one(model.answers(facts(provider))).status == "ok"
    assert provider.seen[0][1]["authorization"] == f"Bearer {KEY}"
