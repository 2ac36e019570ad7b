"""Invalid settings are rejected with their path, the rule and the remedy."""

import functools
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from ape_contracts import conditions
from ape_infra.config import files, project, upload
from ape_infra.config.errors import SettingsError
from ape_infra.config.files import (
    Scenario,
    gateway_config,
    gateway_reaches_docker_host,
    model_ca,
    target_host,
)
from ape_infra.config.parsing import parse
from ape_infra.config.provider import resolve
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import Settings, declared_settings

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
_TYPES = {"integer": int, "string": str, "boolean": bool, "array": list, "object": dict}


@functools.cache
def declared() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "Pulumi.yaml").read_text())["config"]
    return found


def test_pulumi_yaml_declares_exactly_the_settings_and_secrets() -> None:
    assert set(declared()) == {setting.key for setting in declared_settings()} | set(SECRETS)


def test_pulumi_yaml_has_the_types_defaults_and_descriptions_of_the_settings() -> None:
    for setting in declared_settings():
        schema = setting.model.model_json_schema(by_alias=True)["properties"][setting.key]
        entry, field = declared()[setting.key], setting.field
        assert entry["description"] == field.description
        assert entry["default"] == ({} if field.default is None else field.default)
        types = [schema.get("type")]
        types += [part.get("type", "object") for part in schema.get("anyOf", [])]
        assert entry["type"] in types
    for name, description in SECRETS.items():
        assert declared()[name] == {
            "type": "string",
            "default": "",
            "description": description,
        }


def test_defaults_alone_are_valid() -> None:
    assert parse({}) == Settings()


REJECTED = [
    (
        {"runtime": "swarm", "agentPlacement": '["worker"]'},
        'ape:agentPlacement[0]: is "worker", which is not a constraint',
        "node.role==worker",
    ),
    (
        {"servicePlacement": '["node.role==worker"]'},
        "ape:servicePlacement: is set, but runtime is docker",
        "set runtime to swarm",
    ),
    ({"dataNode": "one"}, "ape:dataNode: is set, but runtime is docker", "set runtime to swarm"),
    ({"registryLogin": "true"}, "ape:registryLogin: is true, but registry is empty", "address"),
    ({"networkMtu": "-1"}, "ape:networkMtu: is -1; ", "greater than"),
    ({"agents": "0"}, "ape:agents: is 0; ", "greater than or equal to 1"),
    ({"agents": "-1"}, "ape:agents: is -1; ", "greater than or equal to 1"),
    ({"agents": "2001"}, "ape:agents: is 2001; ", "less than or equal to 2000"),
    ({"agents": "many"}, 'ape:agents: is "many"; ', "integer"),
    ({"agentz": "5"}, "ape:agentz: is not a setting. Did you mean agents? ", "Pulumi.yaml"),
    ({"target": "example.com"}, 'ape:target: is "example.com"', "scheme"),
    ({"targetUserAgent": "a\nb"}, "ape:targetUserAgent: ", "pattern"),
    (
        {"targetUpload": '{"file": "x", "bytes": 1}'},
        "ape:targetUpload.bytes: is set, and so is file",
        "Remove one",
    ),
    ({"targetUserAgent": "x" * 201}, "ape:targetUserAgent: ", "pattern"),
    ({"model": "cerebras"}, "ape:cerebrasApiKey: is not set", "pulumi config set --secret"),
    ({"production": "true"}, "ape:grafanaPassword: is not set", "pulumi config set --secret"),
    (
        {"production": "true", "model": "provider"},
        "ape:maxTokens: is 0, and so is maxCostDollars, but production is true and provider "
        "cerebras bills its tokens",
        "pulumi config set ape:maxTokens 10000000; or set allowUnlimitedSpending to true",
    ),
    (
        {"maxCostDollars": "5"},
        "ape:maxCostDollars: is 5, but the prices are not",
        "modelInputPrice",
    ),
    (
        {"maxCostDollars": "5", "modelInputPrice": "1"},
        "ape:maxCostDollars: is 5, but the prices are not known",
        "modelOutputPrice",
    ),
    ({"maxCostDollars": "-5"}, 'ape:maxCostDollars: is "-5"; ', "match"),
    ({"maxTokens": "-1"}, "ape:maxTokens: is -1; ", "greater than"),
    (
        {"model": "provider", "maxTokens": "9", "modelMaxTokens": "0"},
        "ape:modelMaxTokens: is 0, but maxTokens is set",
        "4096",
    ),
    ({"model": "recorded"}, "ape:modelRecording: is empty", "Set the path"),
    (
        {"model": "recorded", "modelRecording": "x", "modelRecord": "true"},
        "ape:modelRecord: is true",
        "real model",
    ),
    ({"model": "gpt"}, 'ape:model: is "gpt"; ', "'recorded'"),
    ({"modelInputPrice": "-1"}, 'ape:modelInputPrice: is "-1"; ', "match"),
    ({"modelTokensPerMinute": "-1"}, "ape:modelTokensPerMinute: is -1; ", "greater than"),
    ({"modelQueueSeconds": "3601"}, "ape:modelQueueSeconds: is 3601; ", "less than"),
    ({"modelTemperature": "hot"}, 'ape:modelTemperature: is "hot"; ', "match"),
    ({"modelTimeoutSeconds": "0"}, "ape:modelTimeoutSeconds: is 0; ", "greater than"),
    ({"modelHeaders": '{"X-A": 1}'}, "ape:modelHeaders.X-A: is 1; ", "string"),
    ({"provider": "gpt"}, 'ape:provider: is "gpt"; must be one of cerebras, ', "ollama"),
    (
        {"model": "cerebras", "provider": "groq"},
        "ape:model: is cerebras, but provider is groq",
        "Set model to provider",
    ),
    ({"model": "provider", "provider": "groq"}, "ape:modelApiKey: is not set", "provider groq"),
    ({"model": "provider", "provider": "groq"}, "ape:modelName: is empty", "GET /models"),
    ({"model": "provider", "provider": "vllm"}, "ape:modelBaseUrl: is empty", "Set the base URL"),
    (
        {"model": "cerebras", "modelName": "llama-3.3-70b"},
        "ape:modelName: is llama-3.3-70b, which cerebras retired on 2026-02-16",
        "gpt-oss-120b",
    ),
    ({"modelBaseUrl": "https://api.cerebras.ai:x"}, "ape:modelBaseUrl: is not a URL", "Correct"),
    ({"modelBaseUrl": "api.cerebras.ai"}, 'ape:modelBaseUrl: is "api.cere', "scheme"),
    (
        {"modelBaseUrl": "https://me:secret@api.example/v1"},
        "ape:modelBaseUrl: holds credentials",
        "secret modelApiKey",
    ),
    ({"modelHttpProxy": "http://me:x@proxy:3128"}, "ape:modelHttpProxy: holds cred", "no login"),
    ({"modelHttpProxy": "http://127.0.0.1:3128"}, "ape:modelHttpProxy: names 127.0.0.1", "host."),
    ({"target": "https://me:secret@shop.example"}, "ape:target: holds credentials", "auth.headers"),
    (
        {"modelHeaders": '{"authorization": "Bearer x"}'},
        "ape:modelHeaders.authorization: carries a key",
        "secret modelApiKey",
    ),
    ({"modelHeaders": '{"X-Team": "a\\nb"}'}, "ape:modelHeaders.X-Team: is not a header", "one "),
    ({"modelHeaders": '{"X Team": "a"}'}, "ape:modelHeaders.X Team: is not a header", "X-Title"),
    ({"modelHeaders": '{"Host": "a"}'}, "ape:modelHeaders.Host: is a header", "Remove"),
    (
        {"modelHeaders": '{"X-Key": "a"}', "modelKeyHeader": "x-key"},
        "ape:modelHeaders.X-Key: carries a key",
        "Remove it",
    ),
    ({"modelKeyHeader": "Host"}, "ape:modelKeyHeader: is Host", "Correct it"),
    ({"modelOmit": '["messages"]'}, "ape:modelOmit: has messages", "Remove it"),
    ({"modelBody": '{"model": "x"}'}, "ape:modelBody.model: is set by", "Remove it"),
    (
        {"modelBody": '{"max_tokens": 5}'},
        "ape:modelBody.max_tokens: has settings of its own",
        "Set modelMaxTokens",
    ),
    (
        {"runtime": "swarm", "model": "provider", "provider": "ollama", "modelName": "x"},
        "ape:modelBaseUrl: is empty, so that it is http://host.docker.internal:11434/v1",
        "every node",
    ),
    ({"exposeAddress": "here"}, "ape:exposeAddress: ", "not an IP address"),
    ({"networkPool": "10.1.0.0/24"}, "ape:networkPool: ", "no room"),
    (
        {"gatewayPort": "9090"},
        "ape:prometheusPort: is 9090, the same as gatewayPort",
        "different ports",
    ),
    ({"prometheusImage": "prom/prometheus"}, "ape:prometheusImage: ", "version"),
    (
        {"alertThresholds": '{"cpu": 1}'},
        "ape:alertThresholds.cpu: is not a threshold",
        "Use one of",
    ),
    (
        {"alertThresholds": '{"diskPercent": {"raiseAt": 80, "clearAt": 90}}'},
        "ape:alertThresholds.diskPercent.clearAt: is 90",
        "at most raiseAt",
    ),
    ({"logMaxSize": "ten"}, "ape:logMaxSize: ", "match"),
    ({"agentsPerContainer": "0"}, "ape:agentsPerContainer: is 0; ", "greater than or equal to 1"),
    (
        {"agentsPerContainer": "101"},
        "ape:agentsPerContainer: is 101; ",
        "less than or equal to 100",
    ),
    ({"rampSeconds": "-1"}, "ape:rampSeconds: is -1; ", "greater than or equal to 0"),
    ({"sessionMaxSteps": "0"}, "ape:sessionMaxSteps: is 0; ", "greater than or equal to 1"),
    (
        {"sessionMaxSeconds": "30", "thinkTimeSeconds": "30"},
        "ape:sessionMaxSeconds: is 30, which does not exceed one pause",
        "Raise it",
    ),
    (
        {"targetOpenapi": "a.json", "targetEndpoints": '[{"method": "GET", "path": "/"}]'},
        "ape:targetOpenapi: is set, and so is targetEndpoints",
        "Remove one",
    ),
    (
        {"targetSuccess": '{"method": "GET", "path": "/", "status": 200, "equals": 1}'},
        "ape:targetSuccess.equals: has no `value_path`",
        "Add the path of the value",
    ),
    (
        {
            "targetSuccess": '{"method": "GET", "path": "/", "status": 200, '
            '"value_path": "a", "json_path": "a"}'
        },
        "ape:targetSuccess: has `value_path` and its former name `json_path`.",
        "Remove `json_path`.",
    ),
    (
        {
            "targetSuccess": '{"method": "GET", "path": "/", "status": 200, '
            '"checks": [{"json_path": "a", "matches": "("}]}'
        },
        "ape:targetSuccess.checks[0].matches: is not a regular expression",
        "Correct",
    ),
    (
        {"targetSuccess": '{"method": "GET", "path": "/", "status": 200, "also": [{"status": 1}]}'},
        "ape:targetSuccess.also[0].method: is missing",
        "",
    ),
    (
        {"tiers": '[{"minAgents":1,"maxAgents":50,"memoryMb":512,"cpus":0.5,"gpu":1}]'},
        "ape:tiers[0].gpu: is not a setting",
        "Correct or remove",
    ),
    (
        {
            "tiers": '[{"minAgents":1,"maxAgents":50,"memoryMb":512,"cpus":0.5},'
            '{"minAgents":60,"maxAgents":2000,"memoryMb":256,"cpus":0.5}]'
        },
        "ape:tiers[1].minAgents: ",
        "gap",
    ),
]


@pytest.mark.parametrize(("raw", "start", "part"), REJECTED, ids=lambda v: str(v)[:40])
def test_an_invalid_setting_is_rejected_with_path_rule_and_remedy(
    raw: dict[str, str], start: str, part: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(raw)
    line = next(line for line in caught.value.lines if line.startswith(start))
    assert part in line


def test_all_broken_rules_are_reported_at_once() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"agents": "0", "runtime": "podman"})
    assert len(caught.value.lines) == 2


def test_an_external_target_requires_goal_endpoints_and_success() -> None:
    with pytest.raises(SettingsError) as caught:
        parse({"target": "https://shop.example"})
    names = {line.split(":")[1] for line in caught.value.lines}
    assert names == {"targetGoal", "targetEndpoints", "targetSuccess"}


def test_an_external_target_gets_a_route_in_the_gateway_config() -> None:
    settings = parse(
        {
            "target": "https://shop.example",
            "targetGoal": "Look.",
            "targetEndpoints": '[{"method": "GET", "path": "/"}]',
            "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
        }
    )
    text, api = gateway_config(settings, ROOT)
    assert json.loads(text)["routes"][api]["base_url"] == "https://shop.example"
    assert target_host(text, api) == "shop.example"
    assert Scenario.of(settings, ROOT, api).endpoints[0].path == "/"


def test_target_host_has_port_and_base_path() -> None:
    route = {"base_url": "http://shop:8080/api/"}
    assert target_host(json.dumps({"routes": {"shop": route}}), "shop") == "shop:8080/api"


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "JSON"),
        ('{"routes": {}}', "route"),
        ('{"routes": {"shop": {"name": "shop"}}}', "routes.shop.base_url"),
    ],
)
def test_an_invalid_gateway_config_is_rejected(tmp_path: Path, text: str, part: str) -> None:
    (tmp_path / "gateway.json").write_text(text)
    with pytest.raises(SettingsError, match="ape:gatewayConfig: ") as caught:
        gateway_config(parse({"gatewayConfig": "gateway.json"}), tmp_path)
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("base_url", "runtime", "remedy"),
    [
        ("http://localhost:8000", "docker", "write host.docker.internal in its place"),
        ("http://[::1]:8000/api", "docker", "write host.docker.internal in its place"),
        ("http://127.0.0.1", "swarm", "Set an address that every node reaches"),
        ("http://host.docker.internal", "swarm", "Set an address that every node reaches"),
    ],
)
def test_a_route_to_the_container_itself_is_rejected(
    base_url: str, runtime: str, remedy: str, tmp_path: Path
) -> None:
    routes = {"shop": {"base_url": "https://shop.example"}, "own": {"base_url": base_url}}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": routes}))
    settings = parse({"gatewayConfig": "gateway.json", "runtime": runtime})
    with pytest.raises(SettingsError) as caught:
        gateway_config(settings, tmp_path)
    (line,) = caught.value.lines
    assert line.startswith("ape:gatewayConfig: gateway.json: routes.own.base_url: names ")
    assert remedy in line


def test_a_route_to_the_docker_host_is_accepted_on_docker(tmp_path: Path) -> None:
    routes = {"own": {"base_url": "http://host.docker.internal:8000", "endpoints": [{"path": "/"}]}}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": routes}))
    text, _ = gateway_config(parse({"gatewayConfig": "gateway.json"}), tmp_path)
    assert gateway_reaches_docker_host(text)
    assert not gateway_reaches_docker_host('{"routes": {"a": {"base_url": "http://a"}}}')


@pytest.mark.parametrize("text", ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAA==\n"])
def test_a_file_without_certificates_is_rejected(text: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(text)
    with pytest.raises(SettingsError, match=r"ape:modelCaFile: ca\.pem: has no certificates"):
        model_ca(parse({"modelCaFile": "ca.pem"}), tmp_path)
    assert model_ca(parse({}), tmp_path) is None


def test_a_missing_gateway_config_is_rejected(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        gateway_config(parse({"gatewayConfig": "none.json"}), tmp_path)


def test_the_demo_target_has_a_scenario() -> None:
    _, api = gateway_config(Settings(), ROOT)
    scenario = Scenario.of(Settings(), ROOT, api)
    assert scenario.api == api
    paths = [endpoint.path for endpoint in scenario.endpoints]
    assert scenario.success.path in paths
    # Round trip: what the agent reads is what the scenario says.
    assert scenario.plain()["success"]["status"] == scenario.success.status


OWN = {
    "target": "https://shop.example",
    "targetGoal": "Look.",
    "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
}


@pytest.mark.parametrize("value_path", ["value_path", "json_path"])
def test_success_condition_reaches_the_agent_as_it_is_in_the_stack_config(value_path: str) -> None:
    success = {
        "method": "POST",
        "path": "/orders",
        "status": 201,
        value_path: "paid",
        "equals": True,
        "checks": [{value_path: "n", "equals": 1}, {"text": "Thank you"}],
        "also": [{"method": "GET", "path": "/cart", "status": 200, value_path: "items[0]"}],
    }
    settings = parse({"targetSuccess": json.dumps(success)})
    found = Scenario.of(settings, ROOT, "shop").plain()["success"]
    assert found == success
    assert conditions.parse(found) == conditions.parse(success)


def test_a_scenario_has_no_endpoints_where_a_document_has_operations(tmp_path: Path) -> None:
    (tmp_path / "api.yaml").write_text("openapi: 3.1.0\npaths: {/lamps: {get: {}}}\n")
    for target in (OWN, {"target": "demo"}):
        settings = parse({**target, "targetOpenapi": "api.yaml"})
        assert "endpoints" not in Scenario.of(settings, tmp_path, "target").plain()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (None, "No such file"),
        ("a: [", "line 1: is neither JSON nor YAML"),
        ("{}", "is not an OpenAPI document"),
        ('{"openapi": "3.1.0", "paths": {}}', "no operation"),
    ],
)
def test_an_invalid_openapi_file_is_rejected(tmp_path: Path, text: str | None, part: str) -> None:
    if text is not None:
        (tmp_path / "api.json").write_text(text)
    settings = parse({**OWN, "targetOpenapi": "api.json"})
    with pytest.raises(SettingsError, match="ape:targetOpenapi: ") as caught:
        Scenario.of(settings, tmp_path, "target")
    assert part in str(caught.value)


def test_a_scenario_has_no_endpoints_if_the_gateway_config_lists_them(tmp_path: Path) -> None:
    route: dict[str, Any] = {"base_url": "https://shop.example", "endpoints": [{"path": "/"}]}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": {"shop": route}}))
    settings = parse({**OWN, "gatewayConfig": "gateway.json"})
    _, api = gateway_config(settings, tmp_path)
    assert "endpoints" not in Scenario.of(settings, tmp_path, api).plain()
    del route["endpoints"]
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": {"shop": route}}))
    with pytest.raises(SettingsError, match="ape:targetEndpoints: is required, because route shop"):
        gateway_config(settings, tmp_path)


@pytest.mark.parametrize("stack", ["dev", "prod"])
def test_the_stacks_of_this_project_have_valid_settings(stack: str) -> None:
    config = yaml.safe_load((ROOT / f"Pulumi.{stack}.yaml").read_text())["config"]
    raw = {
        key.partition(":")[2]: value if isinstance(value, str) else json.dumps(value)
        for key, value in config.items()
        if key.partition(":")[2] not in SECRETS
    }
    settings = parse(raw, secrets=SECRETS if stack == "prod" else ())
    if stack == "prod":
        assert (settings.platform.production, settings.model.kind) == (True, "provider")
        assert resolve(settings.model).name == "gpt-oss-120b"
        assert settings.platform.log_compress


FILES = {
    "bytes": b"\xff\xfe\xe9",
    "deep list": b"[" * 100_000,
    "deep object": b'{"a":' * 50_000,
    "deep YAML": b"- " * 3000 + b"a",
    "long number": b'{"routes": {"a": ' + b"9" * 5000 + b"}}",
    "control": b"\0",
}


@pytest.mark.parametrize("content", FILES.values(), ids=FILES.keys())
@pytest.mark.parametrize("setting", ["gatewayConfig", "targetOpenapi", "modelRecording"])
def test_a_file_of_a_setting_that_cannot_be_read_is_a_sentence(
    setting: str, content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    found = {
        "gatewayConfig": {},
        "targetOpenapi": {
            "target": "http://shop",
            "targetGoal": "Order.",
            "targetSuccess": '{"method": "GET", "path": "/", "status": 200}',
        },
        "modelRecording": {"model": "recorded"},
    }[setting]
    settings = parse({**found, setting: "file"})

    def read() -> None:
        if setting == "modelRecording":
            files.model_recording(settings, tmp_path)
        else:
            _, api = files.gateway_config(settings, tmp_path)
            files.Scenario.of(settings, tmp_path, api)

    with pytest.raises(SettingsError, match=f"ape:{setting}: "):
        read()


@pytest.mark.parametrize("name", ["a\0b", "x" * 5000, "/dev/null/x", "."])
def test_a_path_of_a_setting_that_is_none_is_a_sentence(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="ape:gatewayConfig: "):
        files.gateway_config(parse({"gatewayConfig": name}), tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"name: \xff", b"name: [", b"- a", b"", b"[" * 100_000],
    ids=["not UTF-8", "cut", "list", "empty", "deep"],
)
def test_a_project_file_that_cannot_be_read_is_a_sentence(content: bytes, tmp_path: Path) -> None:
    (tmp_path / project.PROJECT_FILE).write_bytes(content)
    with pytest.raises(project.ProjectError, match=r"Pulumi\.yaml: .* Correct the file\."):
        project.find(tmp_path)


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"file": "no.gif"}, "targetUpload: .*no.gif: No such file"),
        ({"file": "large"}, r"targetUpload: .*large: is larger than 366 KiB, the maximum on Swarm"),
        ({"file": "cat.gif"}, "targetUpload: is set, and `upload` in gatewayConfig, too"),
        (None, "gatewayConfig: .*dog.gif: No such file"),
    ],
)
def test_a_file_of_uploads_that_no_gateway_can_have_is_rejected(
    given: Any, part: str, tmp_path: Path
) -> None:
    (tmp_path / "large").write_bytes(bytes(400_000))
    config = {"runtime": "swarm", "targetUpload": json.dumps(given or {})}
    if "gatewayConfig" in part:
        routes = {"shop": {"base_url": "http://shop", "endpoints": [{"path": "/"}]}}
        (tmp_path / "g.json").write_text(
            json.dumps({"routes": routes, "upload": {"file": "dog.gif"}})
        )
        config["gatewayConfig"] = "g.json"
    settings = parse(config)
    with pytest.raises(SettingsError, match=part):
        upload.content(settings, tmp_path, gateway_config(settings, tmp_path)[0])
