"""docker.Container: inputs to the daemon's request, the daemon's answer to state. Pure functions.

Behaviour after resource_docker_container_funcs.go in terraform-provider-docker (5074970c).
"""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

from ape_docker_provider.daemon import ProviderError, labels_list, labels_map
from ape_docker_provider.durations import cpus_text, go_duration, nano_cpus, nanos
from ape_docker_provider.schema import CONTAINER
from ape_docker_provider.values import Data

MIB = 1024 * 1024
UPDATABLE = (
    "restart",
    "maxRetryCount",
    "cpuShares",
    "memory",
    "memoryReservation",
    "cpuSet",
    "memorySwap",
    "deviceReadBps",
    "deviceReadIops",
    "deviceWriteBps",
    "deviceWriteIops",
)
"""What an update changes in the running container; other edits in place change only the state."""

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
"""What the daemon does not know; an import takes the defaults."""


def mib(value: int | None) -> int:
    """MiB to bytes; -1 (no limit) stays."""
    return value * MIB if value and value > 0 else value or 0


def throttles(items: list[Data] | None) -> list[Data]:
    """Rates of block devices."""
    return [{"Path": x["path"], "Rate": x["rate"]} for x in items or []]


def resources(inputs: Data) -> Data:
    """The part of the request that POST /containers/ID/update can change too."""
    made: Data = {
        "CpuShares": inputs.get("cpuShares") or 0,
        "Memory": mib(inputs.get("memory")),
        "MemoryReservation": mib(inputs.get("memoryReservation")),
        "CpusetCpus": inputs.get("cpuSet") or "",
        "RestartPolicy": {
            "Name": inputs.get("restart") or "no",
            "MaximumRetryCount": inputs.get("maxRetryCount") or 0,
        },
    }
    if inputs.get("memorySwap"):
        made["MemorySwap"] = mib(inputs["memorySwap"])
    for key in ("deviceReadBps", "deviceReadIops", "deviceWriteBps", "deviceWriteIops"):
        if inputs.get(key):
            name = "Blkio" + key[0].upper() + key[1:].replace("Iops", "IOps")
            made[name] = throttles(inputs[key])
    return made


def request(inputs: Data) -> Data:
    """The body of POST /containers/create."""
    body: Data = {
        "Image": inputs["image"],
        "Hostname": inputs.get("hostname") or "",
        "Domainname": inputs.get("domainname") or "",
        "Tty": bool(inputs.get("tty")),
        "OpenStdin": bool(inputs.get("stdinOpen")),
        "StopSignal": inputs.get("stopSignal") or "",
        "HostConfig": host_config(inputs),
    }
    plain = {
        "StopTimeout": "stopTimeout",
        "Env": "envs",
        "Cmd": "command",
        "Entrypoint": "entrypoints",
        "User": "user",
        "WorkingDir": "workingDir",
    }
    body |= {k: inputs[v] for k, v in plain.items() if inputs.get(v)}
    if inputs.get("labels"):
        body["Labels"] = labels_map(inputs["labels"])
    if inputs.get("ports"):
        body["ExposedPorts"] = {port_key(p): {} for p in inputs["ports"]}
    paths = [v["containerPath"] for v in inputs.get("volumes") or [] if v.get("containerPath")]
    if paths:
        body["Volumes"] = {p: {} for p in paths}
    if inputs.get("healthcheck"):
        body["Healthcheck"] = healthcheck(inputs["healthcheck"])
    return body


def host_config(inputs: Data) -> Data:
    """The HostConfig of the request."""
    made = resources(inputs) | {
        "Privileged": bool(inputs.get("privileged")),
        "PublishAllPorts": bool(inputs.get("publishAllPorts")),
        "Runtime": inputs.get("runtime") or "",
        "Mounts": [mount(m) for m in inputs.get("mounts") or []],
        "AutoRemove": bool(inputs.get("rm")),
        "ReadonlyRootfs": bool(inputs.get("readOnly")),
        "LogConfig": {
            "Type": inputs.get("logDriver") or "",
            "Config": inputs.get("logOpts") or {},
        },
        "NetworkMode": inputs.get("networkMode") or "bridge",
        "Init": bool(inputs.get("init")),
        "ShmSize": mib(inputs.get("shmSize")),
    }
    plain = {
        "Tmpfs": "tmpfs",
        "Dns": "dns",
        "DnsOptions": "dnsOpts",
        "DnsSearch": "dnsSearches",
        "UsernsMode": "usernsMode",
        "PidMode": "pidMode",
        "IpcMode": "ipcMode",
        "Sysctls": "sysctls",
        "GroupAdd": "groupAdds",
        "CgroupnsMode": "cgroupnsMode",
        "CgroupParent": "cgroupParent",
        "StorageOpt": "storageOpts",
    }
    made |= {k: inputs[v] for k, v in plain.items() if inputs.get(v)}
    made |= volumes(inputs.get("volumes") or [])
    if inputs.get("cpus"):
        made["NanoCpus"] = cpus(inputs["cpus"])
    else:
        made["CpuPeriod"] = inputs.get("cpuPeriod") or 0
        made["CpuQuota"] = inputs.get("cpuQuota") or 0
    if inputs.get("ports"):
        made["PortBindings"] = port_bindings(inputs["ports"])
    if inputs.get("hosts"):
        made["ExtraHosts"] = [f"{h['host']}:{h['ip']}" for h in inputs["hosts"]]
    if inputs.get("ulimits"):
        made["Ulimits"] = [
            {"Name": u["name"], "Soft": u["soft"], "Hard": u["hard"]} for u in inputs["ulimits"]
        ]
    capabilities = inputs.get("capabilities") or {}
    made["CapAdd"] = capabilities.get("adds") or []
    made["CapDrop"] = capabilities.get("drops") or []
    if inputs.get("devices"):
        made["Devices"] = [
            {
                "PathOnHost": d["hostPath"],
                "PathInContainer": d.get("containerPath") or d["hostPath"],
                "CgroupPermissions": d["permissions"],
            }
            for d in inputs["devices"]
        ]
    if inputs.get("securityOpts"):
        made |= security(inputs["securityOpts"])
    return made


def security(options: list[str]) -> Data:
    """`systempaths=unconfined` is the client's to handle, as in `docker run`."""
    made: Data = {"SecurityOpt": [o for o in options if o != "systempaths=unconfined"]}
    if "systempaths=unconfined" in options:
        made |= {"MaskedPaths": [], "ReadonlyPaths": []}
    return made


def cpus(text: str) -> int:
    """`cpus` in billionths."""
    try:
        return nano_cpus(text)
    except ValueError as error:
        raise ProviderError(f'cpus: "{text}" is not a number; write it like "0.5"') from error


def port_key(port: Data) -> str:
    """A port as the daemon names it."""
    return f"{port['internal']}/{port.get('protocol') or 'tcp'}"


def port_bindings(ports: list[Data]) -> Data:
    """Published ports."""
    made: dict[str, list[Data]] = {}
    for port in ports:
        host_port = str(port.get("external") or 0)
        binding = {"HostIp": port.get("ip") or "0.0.0.0", "HostPort": host_port}
        made.setdefault(port_key(port), []).append(binding)
    return made


def volumes(items: list[Data]) -> Data:
    """Binds and VolumesFrom."""
    binds, sources = [], []
    for item in items:
        path, source = item.get("containerPath"), item.get("hostPath") or item.get("volumeName")
        if bool(path) == bool(item.get("fromContainer")):
            raise ProviderError("volumes: each needs either containerPath or fromContainer")
        if item.get("fromContainer"):
            sources.append(item["fromContainer"])
        elif source:
            mode = "ro" if item.get("readOnly") else "rw"
            label = f",{item['selinuxRelabel']}" if item.get("selinuxRelabel") else ""
            binds.append(f"{source}:{path}:{mode}{label}")
    made: Data = {}
    if binds:
        made["Binds"] = binds
    if sources:
        made["VolumesFrom"] = sources
    return made


def mount(item: Data) -> Data:
    """One mount, for a container or a service."""
    made: Data = {
        "Type": item["type"],
        "Target": item["target"],
        "Source": item.get("source") or "",
        "ReadOnly": bool(item.get("readOnly")),
    }
    if item.get("bindOptions"):
        made["BindOptions"] = {"Propagation": item["bindOptions"].get("propagation") or ""}
    if item.get("volumeOptions"):
        made["VolumeOptions"] = volume_options(item["volumeOptions"])
    if item.get("tmpfsOptions"):
        options = item["tmpfsOptions"]
        made["TmpfsOptions"] = {
            "SizeBytes": options.get("sizeBytes") or 0,
            "Mode": options.get("mode") or 0,
        }
    return made


def volume_options(options: Data) -> Data:
    """Options of a volume mount."""
    made: Data = {
        "NoCopy": bool(options.get("noCopy")),
        "Labels": labels_map(options.get("labels")),
    }
    if options.get("driverName") or options.get("driverOptions"):
        made["DriverConfig"] = {
            "Name": options.get("driverName") or "",
            "Options": options.get("driverOptions") or {},
        }
    if options.get("subpath"):
        made["Subpath"] = options["subpath"]
    return made


def mount_state(item: Data) -> Data:
    """One mount as it reads back."""
    made: Data = {
        "type": item["Type"],
        "target": item["Target"],
        "source": item.get("Source") or "",
        "readOnly": bool(item.get("ReadOnly")),
    }
    if item.get("BindOptions"):
        made["bindOptions"] = {"propagation": item["BindOptions"].get("Propagation") or ""}
    if item.get("VolumeOptions"):
        options = item["VolumeOptions"]
        driver = options.get("DriverConfig") or {}
        made["volumeOptions"] = {
            "noCopy": bool(options.get("NoCopy")),
            "labels": labels_list(options.get("Labels")),
            "driverName": driver.get("Name") or "",
            "driverOptions": driver.get("Options") or {},
        }
        if options.get("Subpath"):
            made["volumeOptions"]["subpath"] = options["Subpath"]
    if item.get("TmpfsOptions"):
        options = item["TmpfsOptions"]
        made["tmpfsOptions"] = {
            "sizeBytes": options.get("SizeBytes") or 0,
            "mode": options.get("Mode") or 0,
        }
    return made


def healthcheck(inputs: Data) -> Data:
    """A health check, for a container or a service."""
    made: Data = {
        "Test": inputs.get("tests") or [],
        "Interval": nanos(inputs.get("interval")),
        "Timeout": nanos(inputs.get("timeout")),
        "StartPeriod": nanos(inputs.get("startPeriod")),
        "Retries": inputs.get("retries") or 0,
    }
    if nanos(inputs.get("startInterval")):
        made["StartInterval"] = nanos(inputs["startInterval"])
    return made


def endpoint(inputs: Data) -> Data:
    """The settings of a container in one network."""
    made: Data = {"Aliases": inputs.get("aliases") or []}
    ipam = {
        "IPv4Address": inputs.get("ipv4Address"),
        "IPv6Address": inputs.get("ipv6Address"),
        "LinkLocalIPs": inputs.get("linkLocalIps"),
    }
    made["IPAMConfig"] = {k: v for k, v in ipam.items() if v}
    if inputs.get("macAddress"):
        made["MacAddress"] = inputs["macAddress"]
    if inputs.get("driverOpts"):
        pairs = (o.split("=", 1) for o in inputs["driverOpts"] if "=" in o)
        made["DriverOpts"] = dict(pairs)
    if inputs.get("gwPriority"):
        made["GwPriority"] = inputs["gwPriority"]
    return made


def upload_archive(upload: Data, now: float) -> bytes:
    """A tar archive of one uploaded file."""
    if upload.get("content"):
        content = str(upload["content"]).encode()
    elif upload.get("contentBase64"):
        content = base64.b64decode(upload["contentBase64"])
    else:
        content = Path(upload["source"]).read_bytes()
    mode = int(upload["permissions"], 8) if upload.get("permissions") else 0o644
    if not upload.get("permissions") and upload.get("executable"):
        mode = 0o744
    info = tarfile.TarInfo(upload["file"].lstrip("/"))
    info.size, info.mode, info.mtime = len(content), mode, int(now)
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def state(found: Data, known: Data) -> Data:
    """What the daemon says of a container, over what was known (the inputs, or the old state)."""
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
    """Properties that read back one to one."""
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
    """Rates of block devices as they read back."""
    return [{"path": x["Path"], "rate": x["Rate"]} for x in items or []]


def host_entry(line: str) -> Data:
    """An extra host."""
    name, _, address = line.partition(":")
    return {"host": name, "ip": address}


def healthcheck_state(found: Data) -> Data:
    """A container's health check as it reads back: 60 s is "1m0s"."""
    return {
        "tests": found.get("Test") or [],
        "interval": go_duration(found.get("Interval") or 0),
        "timeout": go_duration(found.get("Timeout") or 0),
        "startPeriod": go_duration(found.get("StartPeriod") or 0),
        "startInterval": go_duration(found.get("StartInterval") or 0),
        "retries": found.get("Retries") or 0,
    }


def ports_state(found: Data) -> list[Data]:
    """Published ports, sorted by internal port."""
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
    """Addresses in each network, sorted by name."""
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
    """What an import takes for known: defaults for what the daemon does not hold."""
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
    """A network that an imported container is in."""
    made: Data = {"name": name}
    aliases = [a for a in found.get("Aliases") or [] if a != container_id[:12]]
    if aliases:
        made["aliases"] = aliases
    address = (found.get("IPAMConfig") or {}).get("IPv4Address")
    return made | ({"ipv4Address": address} if address else {})


def bind_entry(bind: str) -> Data:
    """A bind or a named volume of an imported container."""
    source, path, mode = (*bind.split(":"), "rw")[:3]
    made: Data = {"containerPath": path}
    made["hostPath" if source.startswith("/") else "volumeName"] = source
    return made | ({"readOnly": True} if "ro" in mode.split(",") else {})


def changed(old: Data, new: Data, names: tuple[str, ...]) -> list[str]:
    """Which of these properties differ; zero values equal absent ones."""

    def same(a: Any, b: Any) -> bool:
        return bool((a or None) == (b or None))

    return [n for n in names if not same(old.get(n), new.get(n))]
