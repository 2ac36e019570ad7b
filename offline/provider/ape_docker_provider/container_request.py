"""docker.Container: inputs to the daemon's request. Pure functions.

The behavior follows resource_docker_container_funcs.go in terraform-provider-docker (5074970c).
"""

from __future__ import annotations

import base64
import io
import tarfile
from pathlib import Path
from typing import Any

from ape_docker_provider.daemon import ProviderError, labels_map
from ape_docker_provider.durations import nano_cpus, nanos
from ape_docker_provider.mounts import mount
from ape_docker_provider.values import Data

MIB = 1024 * 1024
# Properties that an update changes in the running container. Others change only the state.
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


def mib(value: int | None) -> int:
    """Convert MiB to bytes; -1 (no limit) stays."""
    return value * MIB if value and value > 0 else value or 0


def throttles(items: list[Data] | None) -> list[Data]:
    """Return rates of block devices."""
    return [{"Path": x["path"], "Rate": x["rate"]} for x in items or []]


def resources(inputs: Data) -> Data:
    """Return the part of the request that POST /containers/ID/update also takes."""
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
    """Return the body of POST /containers/create."""
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
    """Return the HostConfig of the request."""
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
        made["Devices"] = [device(d) for d in inputs["devices"]]
    if inputs.get("securityOpts"):
        made |= security(inputs["securityOpts"])
    return made


def device(item: Data) -> Data:
    """Return a device of the host."""
    return {
        "PathOnHost": item["hostPath"],
        "PathInContainer": item.get("containerPath") or item["hostPath"],
        "CgroupPermissions": item["permissions"],
    }


def security(options: list[str]) -> Data:
    """Return the security options; the client handles `systempaths=unconfined`, as `docker run`."""
    made: Data = {"SecurityOpt": [o for o in options if o != "systempaths=unconfined"]}
    if "systempaths=unconfined" in options:
        made |= {"MaskedPaths": [], "ReadonlyPaths": []}
    return made


def cpus(text: str) -> int:
    """Return `cpus` in billionths of a CPU. Raises ProviderError."""
    try:
        return nano_cpus(text)
    except ValueError as error:
        raise ProviderError(f'cpus: "{text}" is not a number; write it like "0.5"') from error


def port_key(port: Data) -> str:
    """Return the daemon's name of a port."""
    return f"{port['internal']}/{port.get('protocol') or 'tcp'}"


def port_bindings(ports: list[Data]) -> Data:
    """Return the published ports."""
    made: dict[str, list[Data]] = {}
    for port in ports:
        host_port = str(port.get("external") or 0)
        binding = {"HostIp": port.get("ip") or "0.0.0.0", "HostPort": host_port}
        made.setdefault(port_key(port), []).append(binding)
    return made


def volumes(items: list[Data]) -> Data:
    """Return Binds and VolumesFrom. Raises ProviderError."""
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


def healthcheck(inputs: Data) -> Data:
    """Return a health check, for a container or a service."""
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
    """Return the options of a container in one network."""
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
    """Return a tar archive of one uploaded file."""
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


def changed(old: Data, new: Data, names: tuple[str, ...]) -> list[str]:
    """Return the properties of `names` that differ; zero values equal absent ones."""

    def same(a: Any, b: Any) -> bool:
        return bool((a or None) == (b or None))

    return [n for n in names if not same(old.get(n), new.get(n))]
