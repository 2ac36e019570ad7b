"""A real stack: a project folder, a state, ports and networks of its own, and the real engine."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import docker
import requests
import yaml
from pulumi import automation as auto

from ape_contracts import labels
from ape_infra.automation.stacks import read_settings
from ape_infra.config.secrets import SECRETS
from ape_infra.reporting.summary import containers
from tests.support.slots import Slot

if TYPE_CHECKING:
    from tests.support.nodes import Node

ROOT = Path(__file__).resolve().parents[2]
# The name of this repository's own project.
PROJECT = "ape"
# Of the names of all stacks of tests.
PREFIX = "t-"
# What a stack of a test starts from; the files of this repository are the user's to edit.
BASES: dict[str, dict[str, str]] = {
    "dev": {"agents": "5"},
    "prod": {
        "production": "true",
        "maxTokens": "10000000",
        "agents": "60",
        # The earlier spelling. Nobody answers there, so that nothing leaves this machine.
        "model": "cerebras",
        "modelBaseUrl": "http://model.invalid/v1",
        "observability": "full",
        "logMaxSize": "10m",
        "logMaxFiles": "5",
        "logCompress": "true",
    },
}
# All that a stack is made of, for a test that edits it.
SOURCES = ("ape_infra", "ape_contracts", "monitoring", "services")
Changes = dict[str, int]
PLUGIN = f"plugins/resource-docker-v{version('pulumi-docker')}/pulumi-resource-docker"


def stand_in() -> bool:
    """Whether the engine runs on the plugin of the offline kit, which is a script."""
    home = Path(os.environ.get("PULUMI_HOME") or Path.home() / ".pulumi")
    installed = home / PLUGIN
    return installed.exists() and installed.read_bytes().startswith(b"#!")


def project_folder(root: Path, *, sources: bool = False) -> None:
    """A Pulumi project at `root`, as a user has one; with the sources, if they are to be edited."""
    root.mkdir(parents=True)
    for file in ("__main__.py", "Pulumi.yaml"):
        shutil.copy(ROOT / file, root)
    # The virtual environment that Pulumi.yaml names.
    (root / ".ape").mkdir()
    (root / ".ape/venv").symlink_to(sys.prefix)
    if sources:
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        for part in SOURCES:
            shutil.copytree(ROOT / part, root / part, ignore=ignored)


class LiveStack:
    """One stack. `up` proves after itself that a preview shows no change."""

    def __init__(
        self, folder: Path, name: str, base: str = "dev", *, sources: bool = False
    ) -> None:
        self.name = name
        self.root = folder / "project"
        self.file = self.root / f"Pulumi.{name}.yaml"
        project_folder(self.root, sources=sources)
        config = {f"{PROJECT}:{key}": value for key, value in BASES[base].items()}
        self.file.write_text(yaml.safe_dump({"config": config}))
        (folder / "state").mkdir()
        self.env = {
            "PULUMI_BACKEND_URL": f"file://{folder}/state",
            "PULUMI_CONFIG_PASSPHRASE": "of a test",
        }
        self.state = folder / "state"
        self.stack = self.opened()
        self.client = docker.from_env()
        self.node: Node | None = None
        self.slot = Slot()
        self.ports = self.slot.ports
        self.config(networkPool=self.slot.network_pool, **self.ports)

    def opened(self, **env: str) -> auto.Stack:
        options = auto.LocalWorkspaceOptions(env_vars={**self.env, **env})
        return auto.create_or_select_stack(
            stack_name=self.name, work_dir=str(self.root), opts=options
        )

    def config(self, **values: Any) -> None:
        """Set settings as `pulumi config set` does; only secrets need it, which takes a second."""
        document = yaml.safe_load(self.file.read_text())
        for key, value in values.items():
            if key not in SECRETS:
                plain = isinstance(value, str | list | dict)
                document["config"][f"{PROJECT}:{key}"] = value if plain else json.dumps(value)
        self.file.write_text(yaml.safe_dump(document))
        for key in SECRETS.keys() & values.keys():
            given = auto.ConfigValue(value=values[key], secret=True)
            self.stack.set_config(f"{PROJECT}:{key}", given)

    def run_on(self, node: Node, images: Mapping[str, str]) -> None:
        """Use the daemon of `node`, which has these images, instead of the machine's."""
        self.node, self.client = node, node.client()
        self.config(dockerHost=node.host, images=dict(images))

    def plan(self) -> Any:
        return read_settings(self.stack).plan(self.name)

    def preview(self) -> tuple[Changes, dict[str, str]]:
        """How many of each operation, and the operation of each resource that changes."""
        operations: dict[str, str] = {}

        def event(e: auto.EngineEvent) -> None:
            if e.resource_pre_event and str(e.resource_pre_event.metadata.op) != "OpType.SAME":
                meta = e.resource_pre_event.metadata
                name = meta.urn.rpartition("::")[2]
                # A replacement also has an event for each step; its own event is the first.
                operations.setdefault(name, str(meta.op).rpartition(".")[2].lower())

        result = self.stack.preview(on_event=event)
        return _plain(result.change_summary), operations

    def up(self, **options: Any) -> Changes:
        result = self.stack.up(**options)
        self.assert_no_change()
        return _plain(result.summary.resource_changes or {})

    def assert_no_change(self) -> None:
        changes, operations = self.preview()
        assert set(changes) == {"same"}, operations

    def unprotect(self) -> None:
        """Production keeps its data from a destroy; a test does not."""
        words = ["state", "unprotect", "--all", "--yes", "--stack", self.name]
        self.stack.workspace.pulumi_command.run(words, str(self.root), self.env)

    def destroy(self) -> None:
        self.stack.destroy()

    def containers(self, service: str | None = None) -> list[dict[str, Any]]:
        """Running or not, with their `docker inspect`."""
        found = []
        for c in containers(self.client, PROJECT, self.name):
            if service in (None, c["Labels"][labels.SERVICE]):
                # One may go while we look.
                with suppress(docker.errors.NotFound):
                    found.append(self.client.api.inspect_container(c["Id"]))
        return found

    def exec(self, container: str, *command: str) -> tuple[int, str]:
        return exec_in(self.client, container, *command)

    def names(self, service: str) -> list[str]:
        return sorted(c["Name"].lstrip("/") for c in self.containers(service))

    def url(self, port: str) -> str:
        """Of what the setting `port` publishes."""
        return f"http://127.0.0.1:{self.ports[port]}"

    def get(self, port: str, path: str) -> Any:
        answer = requests.get(f"{self.url(port)}{path}", timeout=10)
        answer.raise_for_status()
        return answer

    def inside(self, service: str, url: str) -> Any:
        """The JSON, or else the text, of `url` as a service of Python's reaches it; or None.

        For what is not published.
        """
        code = "import sys, urllib.request as u; print(u.urlopen(sys.argv[1]).read().decode())"
        for container in self.containers(service):
            if container["State"]["Running"]:
                failed, output = self.exec(container["Id"], "python", "-c", code, url)
                if not failed:
                    try:
                        return json.loads(output)
                    except ValueError:
                        return output.strip()
        return None

    def leftovers(self) -> list[str]:
        api, filters = self.client.api, {"label": f"{labels.STACK}={self.name}"}
        found = [c["Names"][0] for c in api.containers(all=True, filters=filters)]
        found += [n["Name"] for n in api.networks(filters=filters)]
        found += [v["Name"] for v in api.volumes(filters=filters)["Volumes"] or []]
        return found

    def sweep(self) -> None:
        """Remove whatever a failed test left; what is on a node goes with it."""
        if self.node is None:
            remove(self.client.api, {"label": f"{labels.STACK}={self.name}"})
        self.slot.release()


def remove(api: docker.APIClient, filters: dict[str, str]) -> None:
    """Remove services, containers, networks and volumes."""
    # No Swarm manager, no services.
    with suppress(docker.errors.APIError):
        for service in api.services(filters=filters):  # type: ignore[no-untyped-call]
            api.remove_service(service["ID"])  # type: ignore[no-untyped-call]
    for container in api.containers(all=True, filters=filters):
        api.remove_container(container["Id"], force=True, v=True)
    for network in api.networks(filters=filters):
        api.remove_network(network["Id"])
    for volume in api.volumes(filters=filters)["Volumes"] or []:
        api.remove_volume(volume["Name"], force=True)


def sweep_stale() -> None:
    """Remove what runs of tests that were killed have left on the machine's daemon."""
    try:
        api = docker.from_env().api
        found = [
            (thing.get("Labels") or {}).get(labels.STACK, "")
            for thing in (*api.containers(all=True), *api.networks())
        ]
    except docker.errors.DockerException:
        return  # No daemon: the quick tests need none.
    for name in {name for name in found if name.startswith(PREFIX)}:
        remove(api, {"label": f"{labels.STACK}={name}"})


def _plain(changes: Mapping[Any, int]) -> Changes:
    return {str(k).rpartition(".")[2].lower(): v for k, v in changes.items()}


def exec_in(client: docker.DockerClient, container: str, *command: str) -> tuple[int, str]:
    """(exit code, output) of a command inside of a container."""
    made = client.api.exec_create(container, list(command))["Id"]
    output: bytes = client.api.exec_start(made)
    return int(client.api.exec_inspect(made)["ExitCode"]), output.decode()


def wait_until(check: Any, *, seconds: float) -> Any:
    """The first true answer of `check`; fails the test when the time is over."""
    end = time.monotonic() + seconds
    while True:
        if found := check():
            return found
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(1)


def sh(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
