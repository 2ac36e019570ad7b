"""docker.Service: inputs to the daemon's spec, the daemon's spec to state. Pure functions.

The behavior follows resource_docker_service_structures.go in terraform-provider-docker (5074970c).
That sends absent properties as zero, so that an absent stopGracePeriod kills immediately.
"""

from __future__ import annotations

from typing import Any

from ape_docker_provider.container_request import healthcheck
from ape_docker_provider.daemon import ProviderError, labels_list, labels_map
from ape_docker_provider.durations import nanos, short_duration
from ape_docker_provider.mounts import mount, mount_state
from ape_docker_provider.values import Data


def request(inputs: Data) -> Data:
    """Return the body of POST /services/create and of an update."""
    body: Data = {
        "Name": inputs["name"],
        "Labels": labels_map(inputs.get("labels")),
        "TaskTemplate": task_template(inputs["taskSpec"]),
        "Mode": mode(inputs.get("mode") or {}),
        "EndpointSpec": endpoint_spec(inputs.get("endpointSpec") or {}),
    }
    for key, name in (("updateConfig", "UpdateConfig"), ("rollbackConfig", "RollbackConfig")):
        if inputs.get(key):
            body[name] = rollout(inputs[key])
    return body


def mode(inputs: Data) -> Data:
    """Return the mode; without one the daemon chooses (one replica)."""
    if inputs.get("global"):
        return {"Global": {}}
    if inputs.get("replicated"):
        return {"Replicated": {"Replicas": inputs["replicated"].get("replicas", 1)}}
    return {}


def task_template(inputs: Data) -> Data:
    """Return the task template."""
    made: Data = {
        "ContainerSpec": container_spec(inputs["containerSpec"]),
        "Resources": resources(inputs.get("resources") or {}),
        "RestartPolicy": restart_policy(inputs.get("restartPolicy")),
        "Placement": placement(inputs.get("placement") or {}),
        "ForceUpdate": inputs.get("forceUpdate") or 0,
        "Networks": [attachment(n) for n in inputs.get("networksAdvanceds") or []],
    }
    if inputs.get("runtime"):
        made["Runtime"] = inputs["runtime"]
    if inputs.get("logDriver"):
        driver = inputs["logDriver"]
        made["LogDriver"] = {"Name": driver["name"], "Options": driver.get("options") or {}}
    return made


def container_spec(inputs: Data) -> Data:
    """Return the container part of the task template."""
    made: Data = {
        "Image": inputs["image"],
        "Labels": labels_map(inputs.get("labels")),
        "Env": [f"{k}={v}" for k, v in sorted((inputs.get("env") or {}).items())],
        "ReadOnly": bool(inputs.get("readOnly")),
        "Init": bool(inputs.get("init")),
        "StopGracePeriod": nanos(inputs.get("stopGracePeriod")),
        "Healthcheck": healthcheck(inputs["healthcheck"]) if inputs.get("healthcheck") else {},
        "Mounts": [mount(m) for m in inputs.get("mounts") or []],
        "Hosts": [f"{h['ip']} {h['host']}" for h in inputs.get("hosts") or []],
        "DNSConfig": dns_config(inputs.get("dnsConfig") or {}),
        "Secrets": [file_reference(s, "secret") for s in inputs.get("secrets") or []],
        "Configs": [file_reference(c, "config") for c in inputs.get("configs") or []],
        "Isolation": inputs.get("isolation") or "default",
    }
    plain = {
        "Command": "commands",
        "Args": "args",
        "Hostname": "hostname",
        "Dir": "dir",
        "User": "user",
        "Groups": "groups",
        "StopSignal": "stopSignal",
        "Sysctls": "sysctl",
        "CapabilityAdd": "capAdds",
        "CapabilityDrop": "capDrops",
    }
    return made | {k: inputs[v] for k, v in plain.items() if inputs.get(v)}


def dns_config(inputs: Data) -> Data:
    """Return the DNS options of a service's containers."""
    names = {"Nameservers": "nameservers", "Search": "searches", "Options": "options"}
    return {k: inputs[v] for k, v in names.items() if inputs.get(v)}


def file_reference(inputs: Data, kind: str) -> Data:
    """Return a secret or a config in a service's containers."""
    title = kind.capitalize()
    return {
        f"{title}ID": inputs[f"{kind}Id"],
        f"{title}Name": inputs.get(f"{kind}Name") or "",
        "File": {
            "Name": inputs["fileName"],
            "UID": inputs.get("fileUid") or "0",
            "GID": inputs.get("fileGid") or "0",
            "Mode": inputs.get("fileMode", 0o444),
        },
    }


def resources(inputs: Data) -> Data:
    """Return limits and reservations."""
    made = {}
    for key, name in (("limits", "Limits"), ("reservation", "Reservations")):
        if inputs.get(key):
            made[name] = {
                "NanoCPUs": inputs[key].get("nanoCpus") or 0,
                "MemoryBytes": inputs[key].get("memoryBytes") or 0,
            }
    return made


def restart_policy(inputs: Data | None) -> Data:
    """Return the restart policy, zeros included; without one the daemon uses its own."""
    if not inputs:
        return {}
    return {
        "Condition": inputs.get("condition") or "",
        "Delay": nanos(inputs.get("delay")),
        "MaxAttempts": inputs.get("maxAttempts") or 0,
        "Window": nanos(inputs.get("window")),
    }


def placement(inputs: Data) -> Data:
    """Return the placement of tasks."""
    return {
        "Constraints": inputs.get("constraints") or [],
        "Preferences": [{"Spread": {"SpreadDescriptor": p}} for p in inputs.get("prefs") or []],
        "MaxReplicas": inputs.get("maxReplicas") or 0,
        "Platforms": [
            {"Architecture": p["architecture"], "OS": p["os"]}
            for p in inputs.get("platforms") or []
        ],
    }


def attachment(inputs: Data) -> Data:
    """Return a network of a service. Raises ProviderError."""
    target = inputs.get("id") or inputs.get("name")
    if not target:
        raise ProviderError("taskSpec.networksAdvanceds: each needs id (or name)")
    pairs = (o.split("=", 1) for o in inputs.get("driverOpts") or [] if "=" in o)
    made = {"Target": target, "Aliases": inputs.get("aliases") or []}
    return made | {"DriverOpts": dict(pairs)}


def rollout(inputs: Data) -> Data:
    """Return the update or the rollback policy."""
    return {
        "Parallelism": inputs.get("parallelism", 1),
        "Delay": nanos(inputs.get("delay")),
        "FailureAction": inputs.get("failureAction") or "pause",
        "Monitor": nanos(inputs.get("monitor")),
        "MaxFailureRatio": float(inputs.get("maxFailureRatio") or 0),
        "Order": inputs.get("order") or "stop-first",
    }


def endpoint_spec(inputs: Data) -> Data:
    """Return the published ports of a service."""
    return {
        "Mode": inputs.get("mode") or "",
        "Ports": [
            {
                "Name": p.get("name") or "",
                "Protocol": p.get("protocol") or "tcp",
                "TargetPort": p["targetPort"],
                "PublishedPort": p.get("publishedPort") or 0,
                "PublishMode": p.get("publishMode") or "ingress",
            }
            for p in inputs.get("ports") or []
        ],
    }


def state(found: Data, known: Data) -> Data:
    """Return the state of a service: the daemon's, and properties that only `known` has."""
    spec = found["Spec"]
    made = {k: v for k, v in known.items() if k in ("auth", "convergeConfig")}
    endpoint = found.get("Endpoint") or {}
    mode_name = (endpoint.get("Spec") or {}).get("Mode") or spec["EndpointSpec"].get("Mode") or ""
    ports = endpoint.get("Ports") or spec["EndpointSpec"].get("Ports") or []
    made |= {
        "name": spec["Name"],
        "labels": labels_list(spec.get("Labels")),
        "taskSpec": task_state(spec["TaskTemplate"]),
        "mode": mode_state(spec["Mode"]),
        "endpointSpec": {"mode": mode_name, "ports": [port_state(p) for p in ports]},
    }
    for name, key in (("UpdateConfig", "updateConfig"), ("RollbackConfig", "rollbackConfig")):
        if spec.get(name):
            made[key] = rollout_state(spec[name])
    return made


def mode_state(found: Data) -> Data:
    """Return the state of the mode."""
    if "Global" in found:
        return {"global": True}
    replicas = (found.get("Replicated") or {}).get("Replicas", 1)
    return {"global": False, "replicated": {"replicas": replicas}}


def rollout_state(found: Data) -> Data:
    """Return the state of a policy; the ratio has one decimal."""
    return {
        "parallelism": found.get("Parallelism") or 0,
        "delay": short_duration(found.get("Delay") or 0),
        "failureAction": found.get("FailureAction") or "pause",
        "monitor": short_duration(found.get("Monitor") or 0),
        "maxFailureRatio": f"{found.get('MaxFailureRatio') or 0:.1f}",
        "order": found.get("Order") or "stop-first",
    }


def port_state(found: Data) -> Data:
    """Return the state of a published port."""
    return {
        "name": found.get("Name") or "",
        "protocol": found.get("Protocol") or "tcp",
        "targetPort": found.get("TargetPort") or 0,
        "publishedPort": found.get("PublishedPort") or 0,
        "publishMode": found.get("PublishMode") or "ingress",
    }


def task_state(found: Data) -> Data:
    """Return the state of the task template."""
    made: Data = {
        "containerSpec": container_state(found["ContainerSpec"]),
        "forceUpdate": found.get("ForceUpdate") or 0,
        "resources": resources_state(found.get("Resources") or {}),
        "placement": placement_state(found.get("Placement") or {}),
    }
    if found.get("Runtime"):
        made["runtime"] = found["Runtime"]
    if found.get("RestartPolicy"):
        made["restartPolicy"] = restart_state(found["RestartPolicy"])
    if found.get("Networks"):
        made["networksAdvanceds"] = [network_state(n) for n in found["Networks"]]
    if found.get("LogDriver"):
        driver = found["LogDriver"]
        made["logDriver"] = {"name": driver["Name"], "options": driver.get("Options") or {}}
    return made


def network_state(found: Data) -> Data:
    """Return the state of a network, always by id."""
    made: Data = {"id": found["Target"]}
    if found.get("Aliases"):
        made["aliases"] = found["Aliases"]
    if found.get("DriverOpts"):
        made["driverOpts"] = [f"{k}={v}" for k, v in sorted(found["DriverOpts"].items())]
    return made


def restart_state(found: Data) -> Data:
    """Return the state of the restart policy."""
    made: Data = {}
    if found.get("Condition"):
        made["condition"] = found["Condition"]
    for name, key in (("Delay", "delay"), ("Window", "window")):
        if found.get(name) is not None:
            made[key] = short_duration(found[name])
    if found.get("MaxAttempts") is not None:
        made["maxAttempts"] = found["MaxAttempts"]
    return made


def resources_state(found: Data) -> Data:
    """Return the state of limits and reservations."""
    made = {}
    for name, key in (("Limits", "limits"), ("Reservations", "reservation")):
        if found.get(name):
            made[key] = {
                "nanoCpus": found[name].get("NanoCPUs") or 0,
                "memoryBytes": found[name].get("MemoryBytes") or 0,
            }
    return made


def placement_state(found: Data) -> Data:
    """Return the state of the placement."""
    made: Data = {"maxReplicas": found.get("MaxReplicas") or 0}
    if found.get("Constraints"):
        made["constraints"] = found["Constraints"]
    if found.get("Preferences"):
        made["prefs"] = [p["Spread"]["SpreadDescriptor"] for p in found["Preferences"]]
    if found.get("Platforms"):
        made["platforms"] = [
            {"architecture": p.get("Architecture") or "", "os": p.get("OS") or ""}
            for p in found["Platforms"]
        ]
    return made


def container_state(found: Data) -> Data:
    """Return the state of the container part, without empty values."""
    made: dict[str, Any] = {
        "image": found["Image"],
        "labels": labels_list(found.get("Labels")),
        "commands": found.get("Command"),
        "args": found.get("Args"),
        "hostname": found.get("Hostname"),
        "env": dict(e.partition("=")[::2] for e in found.get("Env") or []),
        "dir": found.get("Dir"),
        "user": found.get("User"),
        "groups": found.get("Groups"),
        "readOnly": found.get("ReadOnly"),
        "mounts": [mount_state(m) for m in found.get("Mounts") or []],
        "stopSignal": found.get("StopSignal"),
        "hosts": [
            dict(zip(("ip", "host"), h.split(" "), strict=False)) for h in found.get("Hosts") or []
        ],
        "secrets": [reference_state(s, "secret") for s in found.get("Secrets") or []],
        "configs": [reference_state(c, "config") for c in found.get("Configs") or []],
        "isolation": found.get("Isolation"),
        "sysctl": found.get("Sysctls"),
        "capAdds": found.get("CapabilityAdd"),
        "capDrops": found.get("CapabilityDrop"),
    }
    made = {k: v for k, v in made.items() if v}
    if found.get("StopGracePeriod") is not None:
        made["stopGracePeriod"] = short_duration(found["StopGracePeriod"])
    if found.get("Init") is not None:
        made["init"] = found["Init"]
    if found.get("Healthcheck") is not None:
        made["healthcheck"] = health_state(found["Healthcheck"])
    dns = found.get("DNSConfig") or {}
    names = {"nameservers": "Nameservers", "searches": "Search", "options": "Options"}
    if any(dns.get(v) for v in names.values()):
        made["dnsConfig"] = {k: dns[v] for k, v in names.items() if dns.get(v)}
    return made


def health_state(found: Data) -> Data:
    """Return the state of a service's health check; 60 s is "1m"."""
    return {
        "tests": found.get("Test") or [],
        "interval": short_duration(found.get("Interval") or 0),
        "timeout": short_duration(found.get("Timeout") or 0),
        "startPeriod": short_duration(found.get("StartPeriod") or 0),
        "retries": found.get("Retries") or 0,
    }


def reference_state(found: Data, kind: str) -> Data:
    """Return the state of a secret or a config."""
    title = kind.capitalize()
    file = found.get("File") or {}
    made = {
        f"{kind}Id": found[f"{title}ID"],
        f"{kind}Name": found.get(f"{title}Name") or "",
        "fileName": file.get("Name") or "",
        "fileUid": file.get("UID") or "0",
        "fileGid": file.get("GID") or "0",
        "fileMode": file.get("Mode") or 0,
    }
    return {k: v for k, v in made.items() if v != ""}
