"""Each rule with valid and invalid inputs, for a container and for a Swarm service."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy

from ape_policy import CONTAINER, RULES, SERVICE

pytestmark = pytest.mark.unit

GOOD: dict[str, dict[str, Any]] = {
    CONTAINER: {
        "image": "prom/prometheus:v2.42.0",
        "user": "10001:10001",
        "readOnly": True,
        # On the wire every number is a float.
        "memory": 512.0,
        "cpus": "0.5",
        "capabilities": {"drops": ["ALL"]},
        "securityOpts": ["no-new-privileges:true"],
        "ports": [{"internal": 8080.0, "external": 8080.0, "ip": "127.0.0.1"}],
        "envs": ["APE_MODEL=offline", "APE_KEY_FILE=/etc/ape/key", "GF_PASSWORD__FILE=/etc/p"],
        "volumes": [{"volumeName": "data", "containerPath": "/data"}],
        "labels": [{"label": "ape.service", "value": "gateway"}],
    },
    SERVICE: {
        "taskSpec": {
            "containerSpec": {
                "image": "registry.example:5000/ape-agent@sha256:" + "0" * 64,
                "user": "10001:10001",
                "readOnly": True,
                "capDrops": ["ALL"],
                "env": {"APE_MODEL": "offline", "APE_TOKENS": "12"},
                "mounts": [{"type": "volume", "source": "data", "target": "/data"}],
            },
            "resources": {"limits": {"memoryBytes": 536870912.0, "nanoCpus": 500000000.0}},
        },
        "labels": [{"label": "ape.service", "value": "agent"}],
    },
}
SPEC = "taskSpec.containerSpec"
SOCKET = "/var/run/docker.sock"
FILLER = {"start": False, "mustRun": False, "restart": "no"}


def changed(kind: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the valid inputs with changes by dotted path; None removes an input."""
    props = copy.deepcopy(GOOD[kind])
    for path, value in changes.items():
        *parents, last = path.split(".")
        at = props
        for key in parents:
            at = at.setdefault(key, {})
        if value is None:
            del at[last]
        else:
            at[last] = value
    return props


def broken(kind: str, props: Mapping[str, Any]) -> dict[str, list[str]]:
    found = {
        rule.name: rule.violations(kind, unknown_checking_proxy(dict(props))) for rule in RULES
    }
    return {name: messages for name, messages in found.items() if messages}


def proxy(**mount: Any) -> dict[str, Any]:
    return {
        "labels": [{"label": "ape.service", "value": "socket-proxy"}],
        "volumes": [{"hostPath": SOCKET, "containerPath": SOCKET, "readOnly": True, **mount}],
        "ports": [],
    }


@pytest.mark.parametrize("kind", [CONTAINER, SERVICE])
def test_a_hardened_workload_passes(kind: str) -> None:
    assert broken(kind, GOOD[kind]) == {}


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        (CONTAINER, {"ports": [{"internal": 1, "external": 1, "ip": "192.0.2.7"}]}),
        (CONTAINER, {"image": "ape-agent:658f75d1a9c4"}),
        (CONTAINER, {"image": "sha256:" + "0" * 64}),
        (CONTAINER, {"capabilities.drops": ["CAP_ALL"]}),
        (CONTAINER, {"securityOpts": ["seccomp=x.json", "no-new-privileges=true"]}),
        (CONTAINER, {"user": "nobody"}),
        (CONTAINER, {"envs": ["APE_API_KEY=", "KEYBOARD=qwerty", "APE_TOKEN_LIMIT=500"]}),
        # The mounts of a monitor.
        (
            CONTAINER,
            {"volumes": [{"hostPath": p, "readOnly": True} for p in ("/sys/fs/cgroup", "/proc")]},
        ),
        (CONTAINER, proxy()),
        (CONTAINER, {**proxy(), "user": "0:0"}),
        (
            SERVICE,
            {
                "labels": [{"label": "ape.service", "value": "socket-proxy"}],
                f"{SPEC}.mounts": [{"type": "bind", "source": SOCKET, "readOnly": True}],
                f"{SPEC}.user": "0:0",
            },
        ),
        # A filler: it never runs, and its root is written.
        (CONTAINER, {**FILLER, "readOnly": None, "cpus": None, "memory": None}),
        (SERVICE, {f"{SPEC}.image": "prom/prometheus:v2.42.0"}),
    ],
)
def test_a_permitted_variant_passes(kind: str, changes: dict[str, Any]) -> None:
    assert broken(kind, changed(kind, changes)) == {}


@pytest.mark.parametrize(
    ("kind", "changes", "rule", "at"),
    [
        (CONTAINER, {"user": None}, "non-root-user", "user: "),
        (CONTAINER, {"user": "root"}, "non-root-user", "user: "),
        (CONTAINER, {"user": "0:10001"}, "non-root-user", "user: "),
        (SERVICE, {f"{SPEC}.user": None}, "non-root-user", f"{SPEC}.user: "),
        (SERVICE, {f"{SPEC}.user": "00"}, "non-root-user", f"{SPEC}.user: "),
        (CONTAINER, {"readOnly": None}, "read-only-root", "readOnly: "),
        (CONTAINER, {"readOnly": None, "start": False}, "read-only-root", "readOnly: "),
        (CONTAINER, {**FILLER, "readOnly": None, "restart": "always"}, "read-only-root", "read"),
        (SERVICE, {f"{SPEC}.readOnly": False}, "read-only-root", f"{SPEC}.readOnly: "),
        (CONTAINER, {"memory": None}, "limits", "memory: "),
        (CONTAINER, {"memory": 0.0}, "limits", "memory: "),
        (CONTAINER, {"cpus": None}, "limits", "cpus: "),
        (CONTAINER, {"cpus": "many"}, "limits", "cpus: "),
        (SERVICE, {"taskSpec.resources.limits.memoryBytes": None}, "limits", "taskSpec.resources"),
        (SERVICE, {"taskSpec.resources": None}, "limits", "taskSpec.resources.limits.memory"),
        (CONTAINER, {"capabilities": None}, "no-capabilities", "capabilities.drops: "),
        (CONTAINER, {"capabilities.drops": ["NET_RAW"]}, "no-capabilities", "capabilities.drops"),
        (CONTAINER, {"capabilities.adds": ["SYS_PTRACE"]}, "no-capabilities", "capabilities.adds"),
        (CONTAINER, {"privileged": True}, "no-capabilities", "privileged: "),
        (SERVICE, {f"{SPEC}.capDrops": None}, "no-capabilities", f"{SPEC}.capDrops: "),
        (SERVICE, {f"{SPEC}.capAdds": ["NET_ADMIN"]}, "no-capabilities", f"{SPEC}.capAdds: "),
        (CONTAINER, {"securityOpts": None}, "no-new-privileges", "securityOpts: "),
        (
            CONTAINER,
            {"securityOpts": ["no-new-privileges:false"]},
            "no-new-privileges",
            "securityOpts: ",
        ),
        *(
            (CONTAINER, {"ports": [{"internal": 1, "ip": ip}]}, "not-on-all-addresses", "ports[0]")
            for ip in ("", "0.0.0.0", "::")
        ),
        (CONTAINER, {"ports": [{"internal": 1}]}, "not-on-all-addresses", "ports[0].ip: "),
        (CONTAINER, {"publishAllPorts": True}, "not-on-all-addresses", "publishAllPorts: "),
        (CONTAINER, {"networkMode": "host"}, "not-on-all-addresses", "networkMode: "),
        (
            SERVICE,
            {"endpointSpec.ports": [{"targetPort": 1, "publishMode": "host"}]},
            "not-on-all-addresses",
            "endpointSpec.ports: ",
        ),
        *(
            (CONTAINER, {"volumes": [{"hostPath": p, "readOnly": True}]}, "no-docker-socket", "vol")
            for p in (SOCKET, "/run/docker.sock", "/var/run/", "//run", "/", "/home/x/docker.sock")
        ),
        (
            CONTAINER,
            {"mounts": [{"type": "bind", "source": SOCKET, "readOnly": True}]},
            "no-docker-socket",
            "mounts[0]: ",
        ),
        (
            SERVICE,
            {f"{SPEC}.mounts": [{"type": "bind", "source": SOCKET}]},
            "no-docker-socket",
            f"{SPEC}.mounts[0]: ",
        ),
        (CONTAINER, proxy(readOnly=False), "no-docker-socket", "volumes[0]: "),
        # The name alone is not an exception.
        (CONTAINER, {**proxy(), "volumes": [], "user": "0"}, "non-root-user", "user: "),
        (
            CONTAINER,
            {**proxy(), "volumes": [*proxy()["volumes"], {"hostPath": "/etc", "readOnly": True}]},
            "no-docker-socket",
            "volumes[1]: mounts /etc",
        ),
        (CONTAINER, proxy(hostPath="/var/run"), "no-docker-socket", "volumes[0]: "),
        (
            CONTAINER,
            {**proxy(), "ports": [{"internal": 1, "ip": "127.0.0.1"}]},
            "no-docker-socket",
            "ports: ",
        ),
        *(
            (CONTAINER, {"image": image}, "pinned-image", "image: ")
            for image in ("prom/prometheus", "alpine:latest", "registry.example:5000/ape-agent")
        ),
        (SERVICE, {f"{SPEC}.image": "ape-agent"}, "pinned-image", f"{SPEC}.image: "),
    ],
)
def test_a_workload_that_is_not_hardened_violates_exactly_its_rule(
    kind: str, changes: dict[str, Any], rule: str, at: str
) -> None:
    found = broken(kind, changed(kind, changes))
    assert set(found) == {rule}
    assert found[rule][0].startswith(at)


SECRET = "csk-not-a-real-key-0123456789"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CEREBRAS_API_KEY", "x"),
        ("gf_security_admin_password", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("TOKEN", "x"),
        ("NOTE", SECRET),
        ("NOTE", "AKIA" + "A" * 16),
        ("URL", "postgres://user:" + SECRET + "@db/x"),
        ("PEM", "-----BEGIN RSA PRIVATE KEY-----\n" + SECRET),
    ],
)
@pytest.mark.parametrize("kind", [CONTAINER, SERVICE])
def test_a_secret_in_the_environment_is_rejected_and_not_shown(
    kind: str, name: str, value: str
) -> None:
    env: dict[str, Any] = {"envs": [f"{name}={value}"]}
    if kind == SERVICE:
        env = {f"{SPEC}.env": {name: value}}
    found = broken(kind, changed(kind, env))
    assert set(found) == {"no-secret-in-environment"}
    assert name in found["no-secret-in-environment"][0]
    assert SECRET not in str(found)


def test_a_filler_is_exempt_only_from_root_and_limit_rules() -> None:
    bare = {**FILLER, "image": "x", "volumes": [{"hostPath": SOCKET}], "ports": [{"internal": 1}]}
    assert set(broken(CONTAINER, bare)) == {
        "non-root-user",
        "no-capabilities",
        "no-new-privileges",
        "not-on-all-addresses",
        "no-docker-socket",
        "pinned-image",
    }


def test_an_unknown_input_leaves_only_its_own_rule_undecided() -> None:
    """Pulumi reports the error as a policy that is decided at the update."""
    props = unknown_checking_proxy(changed(CONTAINER, {"image": UNKNOWN_STRING_VALUE}))
    for rule in RULES:
        if rule.name == "pinned-image":
            with pytest.raises(UnknownValueError):
                rule.violations(CONTAINER, props)
        else:
            assert rule.violations(CONTAINER, props) == []


def test_other_resources_have_no_violations() -> None:
    for rule in RULES:
        assert rule.violations("docker:index/network:Network", {}) == []
