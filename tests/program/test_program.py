"""The whole Pulumi program under mocks: what is declared, for each stack and N."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import certifi
import pulumi
import pytest
from pulumi.runtime import rpc

from ape_contracts.service_settings import AgentSettings, GatewaySettings, ProxySettings, decode
from ape_docker_provider.check import check
from ape_docker_provider.schema import RESOURCES
from ape_docker_provider.values import plain_map, wrap
from ape_infra.config.secrets import CEREBRAS_API_KEY, MODEL_API_KEY
from ape_infra.planning import plan as planning
from tests.support.program_mocks import KEY, PROD, Recorder, Registered, run

pytestmark = pytest.mark.program


def agent_settings(container: Registered) -> AgentSettings:
    """What an agent makes of its one variable, as in its container."""
    return decode(AgentSettings, only_variable(container))


def only_variable(container: Registered) -> str:
    """The settings; but for an agent's token for its reports, there is no other variable."""
    envs = container.inputs["envs"]
    # A list with a secret in it is a secret on the wire.
    given = envs["value"] if isinstance(envs, dict) else envs
    found = dict(e.split("=", 1) for e in given)
    assert found.keys() - {"APE_REPORT_TOKEN"} == {"APE_SETTINGS"}
    return str(found["APE_SETTINGS"])


def report_token_of(container: Registered) -> str:
    assert container.inputs["envs"]["4dabf18193072939515e22adb298388d"], "is a secret"
    (made,) = (e for e in container.inputs["envs"]["value"] if e.startswith("APE_REPORT_TOKEN="))
    return str(made.partition("=")[2])


@pytest.mark.parametrize("agents", [1, 5, 20])
def test_dev_declares_exactly(agents: int) -> None:
    found = run("dev", agents=agents)
    kinds = Counter(r.type.rpartition(":")[2] for r in found.resources)
    assert kinds == {
        "docker": 1,
        "Images": 1,
        "Networks": 1,
        "Gateway": 1,
        "InferenceProxy": 1,
        "DemoTarget": 1,
        "Metrics": 1,
        "Monitor": 1,
        "AgentFleet": 1,
        "Image": 6,
        "Network": 3,
        # Prometheus's data; the files of gateway, proxy, Prometheus and agents; the socket of
        # Docker's proxy.
        "Volume": 6,
        # Six services, four that carry files and never start, and the agents.
        "Container": 6 + 4 + agents,
    }
    assert sorted(r.name for r in found.agents()) == [
        f"agent-{i:04d}" for i in range(1, agents + 1)
    ]


def test_prod_declares_exactly() -> None:
    found = run("prod", **PROD)
    kinds = Counter(r.type.rpartition(":")[2] for r in found.resources)
    # As dev, and the four other parts of the observability stack.
    assert (kinds["Alertmanager"], kinds["Grafana"], kinds["Loki"], kinds["Alloy"]) == (1, 1, 1, 1)
    # Services; those that carry files, the agents among them; agents.
    assert kinds["Container"] == 10 + 8 + 60
    # Files, the data of the five parts, and the socket of Docker's proxy.
    assert kinds["Volume"] == 8 + 5 + 1
    assert kinds["Network"] == 3
    assert kinds.total() == 1 + 12 + 6 + 3 + 14 + 78


@pytest.mark.parametrize(
    ("agents", "shards", "networks"),
    [(5, 1, 1), (200, 1, 1), (250, 1, 2), (251, 2, 2), (501, 3, 8)],
)
def test_swarm_declares_one_service_a_shard(agents: int, shards: int, networks: int) -> None:
    found = run("dev", agents=agents, runtime="swarm")
    kinds = Counter(r.type.rpartition(":")[2] for r in found.resources)
    assert kinds["Service"] == 6 + shards
    # Those of the largest fleet of the tier.
    assert kinds["Network"] == 2 + networks
    # The gateway's config and key, the token of the proxy, the two of each shard; Prometheus's
    # config and rules.
    assert (kinds["Secret"], kinds["ServiceConfig"]) == (3 + 2 * shards, 2)
    assert "Container" not in kinds
    fleet = [r for r in found.of("Service") if r.name.startswith("agents-")]
    assert sum(r.inputs["mode"]["replicated"]["replicas"] for r in fleet) == agents


def test_dense_containers_add_up_the_limits_of_their_agents() -> None:
    # As far as one event loop can use them: a core.
    few = run("dev", agents=600, agentsPerContainer=4).agents()
    assert {(a.inputs["memory"], a.inputs["cpus"]) for a in few} == {(4 * 128, "0.4")}
    assert len(few) == 150
    found = run("dev", agents=45, agentsPerContainer=20).agents()
    assert {a.name: (a.inputs["memory"], a.inputs["cpus"]) for a in found} == {
        "agent-0001": (20 * 512, "1.0"),
        "agent-0021": (20 * 512, "1.0"),
        "agent-0041": (5 * 512, "1.0"),
    }
    slots = {}
    for agent in found:
        slots[agent.name] = list(agent_settings(agent).slots)
    assert slots == {
        "agent-0001": list(range(1, 21)),
        "agent-0021": list(range(21, 41)),
        "agent-0041": list(range(41, 46)),
    }
    # Growing changes the one that was not full, and nothing of the others.
    before = {a.name: a.inputs for a in found}
    counter_increase = run("dev", agents=50, agentsPerContainer=20).agents()
    after = {a.name: a.inputs for a in counter_increase}
    assert [name for name in before if before[name] != after[name]] == ["agent-0041"]


def test_dense_swarm_declares_the_rest_as_a_service_of_its_own() -> None:
    def services(agents: int) -> dict[str, dict[str, Any]]:
        found = run("dev", agents=agents, agentsPerContainer=20, runtime="swarm")
        return {r.name: r.inputs for r in found.of("Service") if r.name.startswith("agents-")}

    def slots(inputs: dict[str, Any], task: int) -> list[int]:
        # More than one, and every update replaces every agent (docs/facts.md).
        ((name, told),) = inputs["taskSpec"]["containerSpec"]["env"].items()
        assert name == "APE_SETTINGS"
        told = told.replace("{{.Task.Slot}}", str(task))
        return list(decode(AgentSettings, told).slots)

    before, after = services(45), services(85)
    assert {n: s["mode"]["replicated"]["replicas"] for n, s in before.items()} == {
        "agents-00": 2,
        "agents-00-rest": 1,
    }
    assert slots(before["agents-00"], 2) == list(range(21, 41))
    assert slots(before["agents-00-rest"], 1) == list(range(41, 46))
    assert slots(after["agents-00-rest"], 1) == list(range(81, 86))
    # Within a tier the full containers know nothing of how many there are.
    counter_increase = services(50)
    assert counter_increase["agents-00"] == before["agents-00"]


@pytest.mark.parametrize(("agents", "memory", "cpus"), [(50, 512, "0.5"), (51, 384, "0.35")])
def test_crossing_a_tier_changes_every_agent(agents: int, memory: int, cpus: str) -> None:
    found = run("dev", agents=agents).agents()
    assert len(found) == agents
    assert {(a.inputs["memory"], a.inputs["cpus"]) for a in found} == {(memory, cpus)}


def test_type_tokens_never_change() -> None:
    found = run("prod", **PROD)
    tokens = {r.type.partition("$")[2] or r.type for r in found.resources}
    assert {t for t in tokens if t.startswith("ape:")} == {
        "ape:images:Images",
        "ape:network:Networks",
        "ape:gateway:Gateway",
        "ape:proxy:InferenceProxy",
        "ape:target:DemoTarget",
        "ape:metrics:Metrics",
        "ape:alerts:Alertmanager",
        "ape:dashboards:Grafana",
        "ape:logs:Loki",
        "ape:logs:Alloy",
        "ape:monitor:Monitor",
        "ape:fleet:AgentFleet",
    }


def test_agents_are_on_internal_networks_only() -> None:
    found = run("dev", agents=300)
    internal = {n.inputs["name"] for n in found.of("Network") if n.inputs.get("internal")}
    for agent in found.agents():
        assert {n["name"] for n in agent.inputs["networksAdvanced"]} <= internal
        assert not agent.inputs.get("ports")


def test_agents_resolve_only_their_peers() -> None:
    """Docker answers names of peers itself; others go to the container's own loopback."""
    options = ("dns", "dnsOpts", "dnsSearches")
    for made in run("dev", agents=2).of("Container"):
        given = [made.inputs.get(name) for name in options]
        agent = made.name.startswith("agent-")
        assert given == ([["127.0.0.1"], ["ndots:1"], ["."]] if agent else [None] * 3), made.name
    for made in run("dev", agents=2, runtime="swarm").of("Service"):
        given = made.inputs["taskSpec"]["containerSpec"].get("dnsConfig")
        agent = made.name.startswith("agents-")
        assert (given is not None) == agent, made.name
        if agent:
            assert given == {
                "nameservers": ["127.0.0.1"],
                "options": ["ndots:1"],
                "searches": ["."],
            }


def test_every_container_is_hardened() -> None:
    for made in run("prod", **PROD).of("Container"):
        inputs = made.inputs
        # Docker's socket belongs to root; its proxy has no capability and no network.
        if made.name == "socket-proxy":
            assert inputs["networkMode"] == "none"
        else:
            assert inputs["user"].split(":")[0] not in ("", "0", "root"), made.name
        assert inputs["capabilities"] == {"drops": ["ALL"]}, made.name
        assert inputs["securityOpts"] == ["no-new-privileges:true"], made.name
        assert inputs["memory"] == inputs["memorySwap"] > 0, made.name
        if inputs.get("start") is not False:
            assert inputs["readOnly"], made.name


def test_images_that_are_given_are_not_built() -> None:
    """As a rollout pins them: all that the stack has, the monitor's too."""
    built = run("dev").of("Image")
    names = [r.name.removeprefix("image-").replace("-", "_") for r in built]
    found = run("dev", images={name: f"{name}:pinned" for name in names})
    assert found.of("Image") == []
    running = {c.inputs["image"] for c in found.of("Container")}
    assert {f"{name}:pinned" for name in names} <= running


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_every_resource_passes_the_check_of_the_plugin(runtime: str) -> None:
    """Names and types: the program gives a container's properties under the schema's names."""
    found = run("prod", runtime=runtime, **PROD).resources
    docker = [r for r in found if r.type in RESOURCES]
    assert len(docker) > 10
    for made in docker:
        given = {k: rpc.unwrap_rpc_secret(v) for k, v in made.inputs.items()}
        inputs = plain_map({k: wrap(v) for k, v in given.items()})
        _, failures = check(RESOURCES[made.type], inputs, {}, made.name, b"")
        assert failures == [], made.name


def test_ports_are_published_on_loopback() -> None:
    published = [port for c in run("dev").of("Container") for port in c.inputs.get("ports", [])]
    assert len(published) == 5
    assert {port["ip"] for port in published} == {"127.0.0.1"}


@pytest.mark.parametrize(
    ("host", "socket"),
    [
        ("", "/var/run/docker.sock"),
        ("unix:///run/user/1000/docker.sock", "/run/user/1000/docker.sock"),
        ("tcp://10.0.0.1:2376", "/var/run/docker.sock"),
    ],
)
def test_the_socket_proxy_has_the_socket_of_the_stacks_daemon(
    host: str, socket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", host)
    [proxy] = [c for c in run("dev").of("Container") if c.name == "socket-proxy"]
    mounts = [v for v in proxy.inputs["volumes"] if v.get("hostPath")]
    assert [(v["hostPath"], v["containerPath"]) for v in mounts] == [
        (socket, "/var/run/docker.sock")
    ]


def test_only_the_socket_proxy_has_dockers_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    for made in run("dev").of("Container"):
        mounts = [v for v in made.inputs.get("volumes", []) if v.get("hostPath")]
        assert all(mount["readOnly"] for mount in mounts), made.name
        found = {mount["hostPath"] for mount in mounts}
        expected = {
            "socket-proxy": {"/var/run/docker.sock"},
            "monitor": {"/proc", "/sys/fs/cgroup"},
        }
        assert found == expected.get(made.name, set()), made.name


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_only_the_socket_proxy_can_replace_its_socket(runtime: str) -> None:
    """A connection needs no right to write; docker-bench-security takes such a mount for /proc."""
    found = {
        made.name: mount.get("readOnly", False)
        for made in run("prod", runtime=runtime, **PROD).resources
        for mount in (
            made.inputs.get("volumes", [])
            if runtime == "docker"
            else made.inputs.get("taskSpec", {}).get("containerSpec", {}).get("mounts", [])
        )
        if mount.get("containerPath", mount.get("target")) == "/run/ape"
    }
    assert found == {"socket-proxy": False, "monitor": True, "alloy": True}


def test_swarm_monitors_each_node() -> None:
    found = {s.name: s.inputs for s in run("dev", runtime="swarm").of("Service")}
    assert {name for name, s in found.items() if s["mode"].get("global")} == {
        "monitor",
        "socket-proxy",
    }


@pytest.mark.parametrize("off", [{"monitor": "off"}, {"observability": "off"}])
def test_the_monitor_can_be_left_out(off: dict[str, str]) -> None:
    found = run("dev", **off)
    assert not {"monitor", "socket-proxy"} & {r.name for r in found.resources}


def test_the_key_is_in_no_environment() -> None:
    found = run("prod", **PROD)
    for made in found.resources:
        plain = {k: v for k, v in made.inputs.items() if k != "uploads"}
        assert KEY not in json.dumps(plain, default=str), made.name


def files(found: Recorder, workload: str) -> dict[str, str]:
    """The files of a workload that has a secret among them, by path."""
    (filler,) = (r for r in found.of("Container") if r.name == f"{workload}-files-filler")
    # A list with a secret in it is a secret on the wire.
    return {u["file"]: u["content"] for u in filler.inputs["uploads"]["value"]}


def token(found: Recorder) -> str:
    """What the proxy and every shard of agents have in their files."""
    shards = {r.name for r in found.of("Network") if r.name.startswith("agents-")}
    (shared,) = {files(found, name)["/etc/ape/proxy_token"] for name in ("proxy", *shards)}
    return shared


def test_proxy_and_agents_share_a_token_of_the_stack() -> None:
    found = run("dev", agents=300)
    shared = token(found)
    assert shared == token(run("dev", agents=1)), "scaling does not change it"
    assert shared != token(run("dev", cerebrasApiKey=KEY))
    assert token(run("dev", agentToken="of-a-test-0123456789")).startswith("of-a-test")
    for made in found.resources:
        plain = {k: v for k, v in made.inputs.items() if k != "uploads"}
        assert shared not in json.dumps(plain, default=str), made.name
    read = "/etc/ape/proxy_token"
    (front,) = (c for c in found.of("Container") if c.name == "proxy")
    assert decode(ProxySettings, only_variable(front)).token_file == read
    for agent in found.agents():
        assert agent_settings(agent).token_file == read, agent.name
    for made in [*found.agents(), front]:
        (volume,) = made.inputs["volumes"]
        assert (volume["containerPath"], volume["readOnly"]) == ("/etc/ape", True), made.name


def proxy_settings(found: Recorder) -> ProxySettings:
    (front,) = (c for c in found.of("Container") if c.name == "proxy")
    return decode(ProxySettings, only_variable(front))


def test_the_proxy_has_the_spend_limits_and_the_agents_of_an_address() -> None:
    prices = {"modelInputPrice": "1", "modelOutputPrice": "2", "maxCostDollars": "7.5"}
    found = run(
        "dev", maxTokens=9000, modelTokensPerMinutePerAgent=800, agentsPerContainer=5, **prices
    )
    told = proxy_settings(found)
    assert (told.most_tokens, told.most_dollars) == (9000, "7.5")
    assert (told.tokens_per_minute_per_agent, told.agents_per_address) == (800, 5)


def test_a_stack_with_the_earlier_spelling_declares_what_it_did() -> None:
    earlier = PROD | {"model": "cerebras", "modelApiKey": "", CEREBRAS_API_KEY: KEY}
    found = run("prod", **earlier)
    assert files(found, "proxy")["/etc/ape/cerebras_api_key"] == KEY
    told = proxy_settings(found)
    assert (told.kind, told.provider, told.name) == ("provider", "cerebras", "gpt-oss-120b")
    assert told.api_key_file == "/etc/ape/cerebras_api_key"
    assert len(found.resources) == len(run("prod", **PROD).resources)


def test_the_proxy_has_the_key_and_the_certificates_of_any_provider(tmp_path: Path) -> None:
    ca = Path(certifi.where()).read_text().partition("-----END CERTIFICATE-----")
    certificate = "-----BEGIN" + (ca[0] + ca[1]).partition("-----BEGIN")[2] + "\n"
    (tmp_path / "ca.pem").write_text(certificate)
    found = run(
        "dev",
        model="provider",
        provider="vllm",
        modelName="a/b",
        modelBaseUrl="https://models.example/v1",
        modelApiKey=KEY,
        modelCaFile=str(tmp_path / "ca.pem"),
        modelTimeoutSeconds=300,
        modelContextTokens=8000,
    )
    held, told = files(found, "proxy"), proxy_settings(found)
    assert (held[told.api_key_file], held[told.ca_file]) == (KEY, certificate)
    assert (told.provider, told.base_url) == ("vllm", "https://models.example/v1")
    for agent in map(agent_settings, found.agents()):
        assert (agent.model_name, agent.context_tokens) == ("a/b", 8000)
        assert agent.model_timeout_seconds > told.request_timeout_seconds == 300


def test_only_what_reaches_the_docker_host_has_its_name(tmp_path: Path) -> None:
    def mapped(**config: Any) -> set[str]:
        found = {c.name: c.inputs.get("hosts") for c in run("dev", **config).of("Container")}
        expected = [{"host": "host.docker.internal", "ip": "host-gateway"}]
        assert all(hosts in (None, expected) for hosts in found.values())
        return {name for name, hosts in found.items() if hosts}

    ollama = {"provider": "ollama", "modelName": "llama3.1"}
    assert mapped() == mapped(**ollama) == set(), "the offline model needs none"
    assert mapped(model="provider", **ollama) == {"proxy"}
    assert mapped(
        modelHttpProxy="http://host.docker.internal:3128", model="cerebras", cerebrasApiKey=KEY
    ) == {"proxy"}
    route = {"base_url": "http://host.docker.internal:8000", "endpoints": [{"path": "/"}]}
    (tmp_path / "gateway.json").write_text(json.dumps({"routes": {"own": route}}))
    assert mapped(gatewayConfig=str(tmp_path / "gateway.json")) == {"gateway"}


def test_agents_know_the_targets_host() -> None:
    assert agent_settings(run("dev", agents=1).agents()[0]).target_host == "target:8080"


def test_agents_follow_redirects_unless_the_setting_says_otherwise() -> None:
    def redirects(**settings: Any) -> str:
        return agent_settings(run("dev", agents=1, **settings).agents()[0]).redirects

    assert redirects() == "follow"
    assert redirects(targetRedirects="report") == "report"


def test_a_recording_is_handed_to_the_proxy(tmp_path: Path) -> None:
    file = tmp_path / "recording.jsonl"
    line = json.dumps({"key": "0" * 64, "completion": {"choices": [{"message": {}}]}})
    file.write_text(line)
    found = run("dev", model="recorded", modelRecording=str(file))
    assert files(found, "proxy")["/etc/ape/recording.jsonl"] == line
    proxy = next(r for r in found.of("Container") if r.name == "proxy")
    told = decode(ProxySettings, only_variable(proxy))
    assert (told.kind, told.recording_file) == ("recorded", "/etc/ape/recording.jsonl")
    file.write_text("{")
    with pytest.raises(pulumi.RunError, match=r"ape:modelRecording: .*line 1"):
        run("dev", model="recorded", modelRecording=str(file))


def test_bad_settings_stop_the_program() -> None:
    with pytest.raises(pulumi.RunError, match="ape:agents: is 0"):
        run("dev", agents=0)
    with pytest.raises(pulumi.RunError, match="ape:agentToken: is not 16"):
        run("dev", agentToken="short")
    with pytest.raises(pulumi.RunError, match="ape:grafanaPassword"):
        run("prod", **{MODEL_API_KEY: KEY})


def test_full_fits_the_seeds_memory_with_the_monitor() -> None:
    found = run("prod", **PROD)
    memory = {c.name: c.inputs["memory"] for c in found.of("Container")}
    watching = (*planning.parts_of("full"), "monitor", "socket-proxy")
    assert sum(memory[part] for part in watching) <= planning.OBSERVABILITY_MEMORY_MB


def test_victorialogs_replaces_loki_and_nothing_else() -> None:
    loki, other = run("prod", **PROD), run("prod", logStore="victorialogs", **PROD)
    kinds = Counter(r.type.rpartition(":")[2] for r in other.resources)
    assert (kinds["Loki"], kinds["VictoriaLogs"]) == (0, 1)
    # Its options are its command: no files, so no container that carries them, and no volume.
    assert kinds["Container"] == 10 + 7 + 60
    assert kinds["Volume"] == 7 + 5 + 1
    assert kinds.total() == 1 + 12 + 6 + 3 + 13 + 77

    def untouched(found: Recorder) -> dict[str, dict[str, Any]]:
        reads_logs = ("loki", "victorialogs", "alloy", "grafana", "prometheus")
        return {
            c.name: c.inputs
            for c in found.of("Container")
            if c.name.split("-")[0] not in reads_logs
        }

    assert untouched(loki) == untouched(other)


def test_victorialogs_keeps_its_data_within_its_limits() -> None:
    found = run(
        "dev",
        observability="full",
        logStore="victorialogs",
        logsRetentionDays=3,
        grafanaPassword="p-of-a-test",
        logsRetentionSize="2GB",
        victorialogsPort=9999,
    )
    (made,) = (c.inputs for c in found.of("Container") if c.name == "victorialogs")
    share = planning.OBSERVABILITY_SHARES["victorialogs"]
    assert (made["memory"], made["cpus"]) == (share.memory_mb, str(share.cpus))
    assert {"-retentionPeriod=3d", "-retention.maxDiskSpaceUsageBytes=2GB"} <= set(made["command"])
    (port,) = made["ports"]
    assert (port["internal"], port["external"], port["ip"]) == (9428, 9999, "127.0.0.1")
    # The one folder of the published image that belongs to this user.
    assert made["user"] == "65532:65532"
    (volume,) = made["volumes"]
    assert volume["containerPath"] == "/home/nonroot"
    assert "-storageDataPath=/home/nonroot/victoria-logs" in made["command"]
    # The image has no program that could check it.
    assert "healthcheck" not in made
    assert not made["wait"]


def test_alloy_brings_the_logs_to_the_store_that_is_deployed() -> None:
    def target(**config: Any) -> str:
        (made,) = (
            c
            for c in run("prod", **PROD, **config).of("Container")
            if c.name.startswith("alloy") and c.inputs.get("start") is False
        )
        text = "".join(upload["content"] for upload in made.inputs["uploads"])
        return str(re.findall(r'url = "(.+)"', text)[0])

    assert target() == "http://loki:3100/loki/api/v1/push"
    assert target(logStore="victorialogs") == (
        "http://victorialogs:9428/insert/loki/api/v1/push?disable_message_parsing=1"
    )


def test_parts_of_full_can_be_left_out() -> None:
    parts = ["prometheus", "alertmanager", "loki"]
    found = run("dev", observability="full", observabilityParts=parts)
    names = {c.name for c in found.of("Container")}
    assert names & set(planning.PARTS) == set(parts)


def test_full_runs_on_swarm() -> None:
    found = run("prod", runtime="swarm", **PROD)
    names = {s.name for s in found.of("Service")}
    assert set(planning.parts_of("full")) <= names
    # Names of Swarm's configs and secrets cannot contain a slash.
    for kind in ("ServiceConfig", "Secret"):
        for made in found.of(kind):
            assert re.fullmatch(r"[a-zA-Z0-9_.-]+", made.inputs["name"]), made.name


def test_an_override_of_no_alert_is_refused() -> None:
    with pytest.raises(pulumi.RunError, match=r"ape:alertOverrides\.Nothing: is not an alert"):
        run("dev", alertOverrides={"Nothing": {"disabled": True}})


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_a_fleet_that_grows_within_its_tier_leaves_gateway_and_proxy_as_they_are(
    runtime: str,
) -> None:
    def services(agents: int) -> dict[str, Any]:
        found = run("dev", agents=agents, runtime=runtime)
        kind = "Container" if runtime == "docker" else "Service"
        return {r.name: r.inputs for r in found.of(kind) if r.name in ("gateway", "proxy")}

    before = services(201)
    assert len(before) == 2
    assert services(300) == before, "past 250, where a second shard of agents begins"
    assert services(501) != before


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_a_fleet_sized_for_a_larger_one_grows_to_it_and_changes_nothing(runtime: str) -> None:
    def declared(agents: int) -> dict[str, Any]:
        found = run("dev", agents=agents, sizedFor=300, runtime=runtime)
        made = {f"{r.type} {r.name}": r.inputs for r in found.resources}
        for inputs in made.values():
            # A Swarm's service knows how many there are, and how long that takes.
            inputs.pop("mode", None)
            inputs.pop("convergeConfig", None)
        return made

    few, all_ = declared(7), declared(300)
    assert few.items() <= all_.items()
    if runtime == "docker":
        assert len(all_) - len(few) >= 293


def test_gateway_gets_the_user_agent_of_the_setting() -> None:
    def user_agent(**settings: Any) -> str:
        (gateway,) = (c for c in run("dev", **settings).of("Container") if c.name == "gateway")
        return decode(GatewaySettings, only_variable(gateway)).user_agent

    assert user_agent() == ""
    assert user_agent(targetUserAgent="load-test/2 (shop)") == "load-test/2 (shop)"
