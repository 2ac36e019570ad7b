"""Each rule with valid and invalid inputs, for a container and for a Swarm service."""

import copy
from collections.abc import Mapping
from typing import Any

import pytest
from pulumi_policy.proxy import UNKNOWN_STRING_VALUE, UnknownValueError, unknown_checking_proxy

from ape_contracts.report_token import sign
from ape_contracts.service_settings import REPORT_TOKEN
from ape_policy import CONTAINER, RULES, SERVICE
from ape_policy.workload import PLUGIN, VOLUME

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


def test_only_the_token_of_own_reports_may_stand_in_the_environment() -> None:
    token = sign("key", 1, 2, 2)
    assert not broken(CONTAINER, changed(CONTAINER, {"envs": [f"{REPORT_TOKEN}={token}"]}))
    for entry in (f"{REPORT_TOKEN}={SECRET}", f"OTHER_TOKEN={token}"):
        assert broken(CONTAINER, changed(CONTAINER, {"envs": [entry]}))


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


def test_only_the_monitor_of_the_cgroups_is_in_the_hosts_cgroup_namespace() -> None:
    (rule,) = (r for r in RULES if r.name == "no-shared-namespaces")
    label = {"labels": [{"label": "ape.service", "value": "monitor"}], "cgroupnsMode": "host"}
    mount = {"hostPath": "/sys/fs/cgroup", "containerPath": "/host/cgroup", "readOnly": True}
    assert rule.violations(CONTAINER, changed(CONTAINER, label))
    assert not rule.violations(CONTAINER, changed(CONTAINER, label | {"volumes": [mount]}))


TRICKS: list[tuple[str, dict[str, Any], str]] = [
    *(
        (CONTAINER, {name: value}, "no-shared-namespaces")
        for name, value in (
            ("pidMode", "host"),
            ("pidMode", "container:gateway"),
            ("ipcMode", "host"),
            ("ipcMode", "shareable"),
            ("utsMode", "host"),
            ("usernsMode", "host"),
            ("cgroupnsMode", "host"),
            ("cgroupParent", "/"),
            ("networkMode", "container:gateway"),
            ("networksAdvanced", [{"name": "host"}]),
        )
    ),
    (SERVICE, {"taskSpec.networksAdvanceds": [{"id": "host"}]}, "no-shared-namespaces"),
    *(
        (CONTAINER, {name: value}, "no-devices")
        for name, value in (
            ("devices", [{"hostPath": "/dev/sda"}]),
            ("deviceRequests", [{"count": -1}]),
            ("deviceCgroupRules", ["a *:* rwm"]),
            ("gpus", "all"),
        )
    ),
    *(
        (
            CONTAINER,
            {"securityOpts": ["no-new-privileges:true", opt]},
            rule,
        )
        for opt, rule in (
            ("seccomp=unconfined", "default-profiles"),
            ("seccomp:unconfined", "default-profiles"),
            ('seccomp={"defaultAction": "SCMP_ACT_ALLOW"}', "default-profiles"),
            ("apparmor=unconfined", "default-profiles"),
            ("apparmor:unconfined", "default-profiles"),
            ("label=disable", "default-profiles"),
            ("label:disable", "default-profiles"),
            ("systempaths=unconfined", "default-profiles"),
            ("writable-cgroups=true", "default-profiles"),
            ("no-new-privileges:false", "no-new-privileges"),
            ("no-new-privileges=0", "no-new-privileges"),
        )
    ),
    (SERVICE, {f"{SPEC}.privileges": {"seLinuxContext": {"disable": True}}}, "default-profiles"),
    *(
        (CONTAINER, {"volumes": [{"containerPath": "/x", **volume}]}, "host-paths")
        for volume in (
            {"hostPath": "/etc", "readOnly": False},
            {"hostPath": "/etc", "readOnly": True},
            {"hostPath": "/proc"},
            {"hostPath": "/proc/../etc", "readOnly": True},
            {"volumeName": "/etc"},
            {"fromContainer": "socket-proxy"},
        )
    ),
    *(
        (kind, {path: [{"target": "/x", **mount}]}, "host-paths")
        for kind, path in ((CONTAINER, "mounts"), (SERVICE, f"{SPEC}.mounts"))
        for mount in (
            {"type": "bind", "source": "/etc"},
            {"type": "bind", "source": "/sys/fs/cgroup"},
            {"type": "volume", "source": "/etc"},
            {"type": "cluster", "source": "x"},
            {"type": "volume", "source": "x", "volumeOptions": {"driverName": "sshfs"}},
            {
                "type": "volume",
                "source": "x",
                "volumeOptions": {"driverOptions": {"type": "none", "o": "bind", "device": "/"}},
            },
            {
                "type": "bind",
                "source": "/proc",
                "readOnly": True,
                "bindOptions": {"propagation": "rshared"},
            },
        )
    ),
    *(
        (CONTAINER, {"user": user}, "non-root-user")
        for user in ("10001", "10001:0", "10001:root", "nobody:0", "10001:00", "472:0")
    ),
    (SERVICE, {f"{SPEC}.user": "10001:0"}, "non-root-user"),
    (CONTAINER, {"groupAdds": ["0"]}, "non-root-user"),
    (SERVICE, {f"{SPEC}.groups": ["999"]}, "non-root-user"),
    (CONTAINER, {"memorySwap": -1.0}, "limits"),
    (CONTAINER, {"memorySwap": 4096.0}, "limits"),
    *(
        (CONTAINER, {name: value}, "only-needed-inputs")
        for name, value in (
            ("sysctls", {"net.ipv4.ip_forward": "1"}),
            ("hosts", [{"host": "gateway", "ip": "192.0.2.1"}]),
            ("dns", ["192.0.2.1"]),
            ("runtime", "io.example.host"),
            ("storageOpts", {"size": "1T"}),
            ("aNewInput", True),
        )
    ),
    (SERVICE, {f"{SPEC}.sysctl": {"kernel.shmmax": "1"}}, "only-needed-inputs"),
    (SERVICE, {f"{SPEC}.dnsConfig": {"nameservers": ["192.0.2.1"]}}, "only-needed-inputs"),
    (SERVICE, {f"{SPEC}.isolation": "process"}, "only-needed-inputs"),
    (SERVICE, {"taskSpec.runtime": "plugin"}, "only-needed-inputs"),
]


@pytest.mark.parametrize(("kind", "changes", "rule"), TRICKS)
def test_a_way_out_of_the_container_violates_exactly_its_rule(
    kind: str, changes: dict[str, Any], rule: str
) -> None:
    found = broken(kind, changed(kind, changes))
    assert set(found) == {rule}, found


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        # What the plugin adds as defaults.
        (CONTAINER, {"networkMode": "bridge", "ipcMode": "private", "runtime": "runc"}),
        (CONTAINER, {"__defaults": ["attach"], "attach": False, "rm": False, "tty": False}),
        (SERVICE, {f"{SPEC}.isolation": "default", "taskSpec.runtime": "container"}),
        (CONTAINER, {"memorySwap": 512.0}),
        # Of agents: only names of peers are resolved.
        (CONTAINER, {"dns": ["127.0.0.1"], "dnsOpts": ["ndots:1"], "dnsSearches": ["."]}),
        (CONTAINER, {"securityOpts": ["no-new-privileges:true", "apparmor=docker-default"]}),
        (
            CONTAINER,
            {"user": "472:0", "labels": [{"label": "ape.service", "value": "grafana"}]},
        ),
        (SERVICE, {f"{SPEC}.mounts": [{"type": "tmpfs", "target": "/tmp"}]}),
    ],
)
def test_what_the_stack_needs_passes_the_rules_of_isolation(
    kind: str, changes: dict[str, Any]
) -> None:
    assert broken(kind, changed(kind, changes)) == {}


def test_a_volume_or_a_plugin_that_reaches_the_host_is_refused() -> None:
    def violations(kind: str, **props: Any) -> set[str]:
        return {rule.name for rule in RULES if rule.violations(kind, props)}

    bind = {"type": "none", "o": "bind", "device": "/"}
    assert violations(VOLUME, name="data", driver="local") == set()
    assert violations(VOLUME, name="data") == set()
    assert violations(VOLUME, name="data", driverOpts=bind) == {"plain-volumes"}
    assert violations(VOLUME, name="data", driver="sshfs") == {"plain-volumes"}
    assert violations(PLUGIN, name="vieux/sshfs") == {"plain-volumes"}


def test_a_network_that_is_still_to_come_leaves_no_rule_undecided() -> None:
    networks = [{"id": UNKNOWN_STRING_VALUE}]
    assert broken(SERVICE, changed(SERVICE, {"taskSpec.networksAdvanceds": networks})) == {}


def test_other_resources_have_no_violations() -> None:
    for rule in RULES:
        assert rule.violations("docker:index/network:Network", {}) == []
