"""docker.Container: the daemon's answer to state. Pure functions.

The behavior follows resource_docker_container_funcs.go in terraform-provider-docker (5074970c).
"""

from __future__ import annotations

from ape_docker_provider.container_request import MIB
from ape_docker_provider.daemon import labels_list
from ape_docker_provider.durations import cpus_text, go_duration
from ape_docker_provider.mounts import mount_state
from ape_docker_provider.schema import CONTAINER
from ape_docker_provider.values import Data

# Properties that the daemon does not know. An import takes their defaults.
UNREADABLE = (
    "attach",
    "containerReadRefreshTimeoutMilliseconds",
    "logs",
    "mustRun",
    "removeVolumes",
    "start",
    "wait",
    "waitTimeout",
)


def state(found: Data, known: Data) -> Data:
    """Return the state of a container: `known` (inputs or old state), updated by the daemon."""
    config, host = found["Config"], found["HostConfig"]
    settings = found.get("NetworkSettings") or {}
    running = found["State"]["Running"]
    made = {k: v for k, v in known.items() if v is not None and k not in ("exitCode",)}
    must_run = known.get("mustRun", True)
    if (running or must_run) and known.get("ports"):
        made["ports"] = ports_state(settings.get("Ports") or {})
    made["bridge"] = settings.get("Bridge") or ""
    made["networkDatas"] = networks_state(settings.get("Networks") or {})
    if not running:
        made["exitCode"] = found["State"]["ExitCode"]
        made["mustRun"] = False
    made |= simple_state(found, config, host)
    if str(known.get("image") or "").startswith("sha256:"):
        made["image"] = found["Image"]
    if host.get("CapAdd") or host.get("CapDrop"):
        made["capabilities"] = {"adds": host.get("CapAdd"), "drops": host.get("CapDrop")}
        made["capabilities"] = {k: v for k, v in made["capabilities"].items() if v}
    if host.get("NanoCpus"):
        made["cpus"] = cpus_text(host["NanoCpus"])
    if known.get("logOpts"):
        made["logOpts"] = host["LogConfig"].get("Config") or {}
    if known.get("ulimits"):
        made["ulimits"] = [
            {"name": u["Name"], "soft": u["Soft"], "hard": u["Hard"]} for u in host["Ulimits"] or []
        ]
    if known.get("pidMode"):
        made["pidMode"] = host.get("PidMode") or ""
    if config.get("Healthcheck"):
        made["healthcheck"] = healthcheck_state(config["Healthcheck"])
    if config.get("StopTimeout") is not None:
        made["stopTimeout"] = config["StopTimeout"]
    return {k: v for k, v in made.items() if v is not None}


def simple_state(found: Data, config: Data, host: Data) -> Data:
    """Return the properties that the daemon reports unchanged."""
    swap = host.get("MemorySwap") or 0
    policy = host.get("RestartPolicy") or {}
    return {
        "name": found["Name"].lstrip("/"),
        "rm": host["AutoRemove"],
        "readOnly": host["ReadonlyRootfs"],
        "image": config["Image"],
        "hostname": config["Hostname"],
        "domainname": config["Domainname"],
        "command": config.get("Cmd") or [],
        "entrypoints": config.get("Entrypoint") or [],
        "user": config.get("User") or "",
        "dns": host.get("Dns") or [],
        "dnsOpts": host.get("DnsOptions") or [],
        "dnsSearches": host.get("DnsSearch") or [],
        "securityOpts": host.get("SecurityOpt") or [],
        "publishAllPorts": host["PublishAllPorts"],
        "restart": policy.get("Name") or "no",
        "maxRetryCount": policy.get("MaximumRetryCount") or 0,
        "init": bool(host.get("Init")),
        "workingDir": config.get("WorkingDir") or "",
        "runtime": host.get("Runtime") or "",
        "platform": found.get("Platform") or "",
        "mounts": [mount_state(m) for m in host.get("Mounts") or []],
        "tmpfs": host.get("Tmpfs") or {},
        "hosts": [host_entry(h) for h in host.get("ExtraHosts") or []],
        "privileged": host["Privileged"],
        "memory": (host.get("Memory") or 0) // MIB,
        "memoryReservation": (host.get("MemoryReservation") or 0) // MIB,
        "memorySwap": swap // MIB if swap > 0 else swap,
        "shmSize": (host.get("ShmSize") or 0) // MIB,
        "cpuShares": host.get("CpuShares") or 0,
        "cpuSet": host.get("CpusetCpus") or "",
        "logDriver": host["LogConfig"]["Type"],
        "storageOpts": host.get("StorageOpt") or {},
        "networkMode": host["NetworkMode"],
        "usernsMode": host.get("UsernsMode") or "",
        "sysctls": host.get("Sysctls") or {},
        "ipcMode": host.get("IpcMode") or "",
        "groupAdds": host.get("GroupAdd") or [],
        "tty": config["Tty"],
        "stdinOpen": config["OpenStdin"],
        "stopSignal": config.get("StopSignal") or "",
        "deviceReadBps": rates_state(host.get("BlkioDeviceReadBps")),
        "deviceReadIops": rates_state(host.get("BlkioDeviceReadIOps")),
        "deviceWriteBps": rates_state(host.get("BlkioDeviceWriteBps")),
        "deviceWriteIops": rates_state(host.get("BlkioDeviceWriteIOps")),
    }


def rates_state(items: list[Data] | None) -> list[Data]:
    """Return rates of block devices."""
    return [{"path": x["Path"], "rate": x["Rate"]} for x in items or []]


def host_entry(line: str) -> Data:
    """Return an extra host."""
    name, _, address = line.partition(":")
    return {"host": name, "ip": address}


def healthcheck_state(found: Data) -> Data:
    """Return a container's health check; 60 s is "1m0s"."""
    return {
        "tests": found.get("Test") or [],
        "interval": go_duration(found.get("Interval") or 0),
        "timeout": go_duration(found.get("Timeout") or 0),
        "startPeriod": go_duration(found.get("StartPeriod") or 0),
        "startInterval": go_duration(found.get("StartInterval") or 0),
        "retries": found.get("Retries") or 0,
    }


def ports_state(found: Data) -> list[Data]:
    """Return the published ports, sorted by internal port."""
    made = []
    for key in sorted(found, key=lambda k: (int(k.split("/")[0]), k)):
        number, _, protocol = key.partition("/")
        for binding in found[key] or []:
            made.append(
                {
                    "internal": int(number),
                    "external": int(binding["HostPort"] or 0),
                    "ip": binding["HostIp"],
                    "protocol": protocol,
                }
            )
    return made


def networks_state(found: Data) -> list[Data]:
    """Return the addresses in each network, sorted by name."""
    return [
        {
            "networkName": name,
            "ipAddress": net.get("IPAddress") or "",
            "ipPrefixLength": net.get("IPPrefixLen") or 0,
            "gateway": net.get("Gateway") or "",
            "globalIpv6Address": net.get("GlobalIPv6Address") or "",
            "globalIpv6PrefixLength": net.get("GlobalIPv6PrefixLen") or 0,
            "ipv6Gateway": net.get("IPv6Gateway") or "",
            "macAddress": net.get("MacAddress") or "",
        }
        for name, net in sorted(found.items())
    ]


def imported(found: Data, image: Data | None) -> Data:
    """Return the known properties of an import, with defaults for those in UNREADABLE."""
    config, host = found["Config"], found["HostConfig"]
    basis = (image or {}).get("Config") or {}
    made: Data = {k: CONTAINER.fields[k].default for k in UNREADABLE}
    base_env = set(basis.get("Env") or [])
    base_labels = (basis.get("Labels") or {}).items()
    made["envs"] = [e for e in config.get("Env") or [] if e not in base_env]
    extra = {k: v for k, v in (config.get("Labels") or {}).items() if (k, v) not in base_labels}
    made["labels"] = labels_list(extra)
    made["ports"] = ports_state(host.get("PortBindings") or {})
    made["logOpts"] = host["LogConfig"].get("Config") or {}
    made["ulimits"] = [{"name": "", "soft": 0, "hard": 0}] if host.get("Ulimits") else None
    networks = (found.get("NetworkSettings") or {}).get("Networks") or {}
    made["networksAdvanced"] = [
        network_entry(name, net, found["Id"])
        for name, net in sorted(networks.items())
        if name != host["NetworkMode"] and name != "bridge"
    ]
    made["volumes"] = [bind_entry(b) for b in host.get("Binds") or []]
    return {k: v for k, v in made.items() if v not in (None, [], {})}


def network_entry(name: str, found: Data, container_id: str) -> Data:
    """Return a network of an imported container."""
    made: Data = {"name": name}
    aliases = [a for a in found.get("Aliases") or [] if a != container_id[:12]]
    if aliases:
        made["aliases"] = aliases
    address = (found.get("IPAMConfig") or {}).get("IPv4Address")
    return made | ({"ipv4Address": address} if address else {})


def bind_entry(bind: str) -> Data:
    """Return a bind or a named volume of an imported container."""
    source, path, mode = (*bind.split(":"), "rw")[:3]
    made: Data = {"containerPath": path}
    made["hostPath" if source.startswith("/") else "volumeName"] = source
    return made | ({"readOnly": True} if "ro" in mode.split(",") else {})
