"""The program's containers as a file for docker-compose, for the peer."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pulumi.runtime import rpc

from tests.support.program_mocks import Registered, declared

CONTAINER = "docker:index/container:Container"
NETWORK = "docker:index/network:Network"
AGENT = "agent"


def program(root: Path, stack: str, settings: Mapping[str, str]) -> list[Registered]:
    """Return the resources that `__main__.py` in `root` registers in a preview."""
    found = declared(root, stack, settings)
    return [item._replace(inputs=_whole(item.inputs)) for item in found.resources]


def _whole(value: Any) -> Any:
    """Convert whole numbers back to int; Pulumi turns them into floats."""
    if isinstance(value, dict):
        return {key: _whole(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_whole(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def compose(resources: list[Registered], folder: Path) -> dict[str, Any]:
    """Return a compose file (2.4) with one service for all agents; write its files to `folder`."""
    containers = {name: found for kind, name, found in resources if kind == CONTAINER}
    volumes = {}
    for name, found in containers.items():
        if found.get("uploads"):
            uploads = rpc.unwrap_rpc_secret(found["uploads"])
            volumes[found["volumes"][0]["volumeName"]] = _written(uploads, folder / name)
    # A container that never starts only fills a volume; compose mounts the files instead.
    running = {n: found for n, found in containers.items() if found.get("start", True)}
    agents = sorted(n for n in running if n.startswith(f"{AGENT}-"))
    peers = [n for n in running if n not in agents]
    services = {name: _service(running[name], volumes) for name in peers}
    for name in peers:
        # Services have one container, with the name that the program gives it.
        services[name] |= {"container_name": running[name]["name"], "hostname": name}
    services[AGENT] = _service(running[agents[0]], volumes) | {
        "depends_on": {name: {"condition": "service_healthy"} for name in peers}
    }
    networks = {
        found["name"]: {
            "driver": found["driver"],
            "internal": found["internal"],
            "ipam": {"config": found["ipamConfigs"]},
        }
        for kind, _, found in resources
        if kind == NETWORK
    }
    return {"version": "2.4", "services": services, "networks": networks}


def _written(uploads: list[dict[str, Any]], folder: Path) -> str:
    """Write the files into one folder, as in the container; return its path."""
    folder.mkdir(parents=True)
    for item in uploads:
        content = rpc.unwrap_rpc_secret(item["content"])
        (folder / Path(item["file"]).name).write_text(content)
    return str(folder)


def _service(found: dict[str, Any], volumes: Mapping[str, str]) -> dict[str, Any]:
    health, log = found["healthcheck"], found["logOpts"]
    made: dict[str, Any] = {
        "image": found["image"],
        "command": found.get("command"),
        # A single dollar sign would begin a variable of compose.
        "environment": [text.replace("$", "$$") for text in found["envs"]],
        "user": found["user"],
        "read_only": found["readOnly"],
        "tmpfs": [f"{path}:{how}" for path, how in found["tmpfs"].items()],
        "cap_drop": found["capabilities"]["drops"],
        "security_opt": found["securityOpts"],
        "mem_limit": f"{found['memory']}m",
        "memswap_limit": f"{found['memorySwap']}m",
        "cpus": float(found["cpus"]),
        "ulimits": {u["name"]: {"soft": u["soft"], "hard": u["hard"]} for u in found["ulimits"]},
        "init": found["init"],
        "restart": f"{found['restart']}:{found['maxRetryCount']}",
        "stop_grace_period": f"{found['stopTimeout']}s",
        "logging": {"driver": found["logDriver"], "options": log},
        "healthcheck": {
            "test": [text.replace("$", "$$") for text in health["tests"]],
            "interval": health["interval"],
            "timeout": health["timeout"],
            "start_period": health["startPeriod"],
            "retries": health["retries"],
        },
        "networks": {
            n["name"]: {"aliases": n["aliases"]} if n.get("aliases") else {}
            for n in found["networksAdvanced"]
        },
        "ports": [
            f"{p['ip']}:{p['external']}:{p['internal']}/{p['protocol']}"
            for p in found.get("ports", [])
        ],
        "volumes": [
            f"{volumes[v['volumeName']]}:{v['containerPath']}:ro" for v in found.get("volumes", [])
        ],
        "labels": {label["label"]: label["value"] for label in found["labels"]},
    }
    return {key: value for key, value in made.items() if value not in (None, [])}
