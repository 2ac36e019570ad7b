"""Pulumi's engine for one stack of this project, over the Automation API."""

from __future__ import annotations

import json
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import docker
import psutil
from docker.errors import APIError, NotFound
from pulumi import automation as auto
from semver import VersionInfo

from ape_contracts import labels
from ape_infra.checks.preflight import PreflightError, connect
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import config_key, current
from ape_infra.config.settings import Settings
from ape_infra.rollout.controller import EngineError, StackLockedError

ROOT = current().root
LOCKS = ROOT / ".ape" / "locks"
# An update that is told to stop ends the operations under way; a container's wait is 60 s.
STOP_SECONDS = 90.0
HEARD_SECONDS = 5.0
# Seconds, about, until the tasks of a Swarm's service have left its networks.
FREE_TRIES = 20
FLEET = "ape:fleet:AgentFleet$"
IMAGE = "index/image:Image::"
SWARM_SERVICE = "com.docker.swarm.service.id"
OnProgress = Callable[[str], None]


class NoStackError(Exception):
    """There is no such stack; says what to do."""


class Command(auto.PulumiCommand):
    """`pulumi`, taken for one of the SDK's own version instead of asked for it at each start.

    Set-up has built it, or has told which it found.
    """

    def __init__(self) -> None:
        self.command = "pulumi"
        self.version = VersionInfo.parse(version("pulumi"))


def open_stack(name: str, *, create: bool = True) -> auto.Stack:
    """Raises NoStackError where it is not there and not to be made."""
    options = auto.LocalWorkspaceOptions(pulumi_command=Command())
    if create:
        return auto.create_or_select_stack(name, work_dir=str(ROOT), opts=options)
    try:
        return auto.select_stack(name, work_dir=str(ROOT), opts=options)
    except auto.StackNotFoundError:
        raise NoStackError(
            f"Stack {name} is not up. Start it with: ape-load up --stack {name}"
        ) from None


def read_settings(stack: auto.Stack) -> Settings:
    """The stack's settings, checked as the program checks them."""
    found = stack.get_all_config()
    return parse_config({key.partition(":")[2]: value.value for key, value in found.items()})


@dataclass(frozen=True)
class Preview:
    """`changes`: operation -> how many. `operations`: URN -> operation, of what changes."""

    changes: dict[str, int] = field(default_factory=dict)
    operations: dict[str, str] = field(default_factory=dict)

    @property
    def changing(self) -> bool:
        return bool(set(self.changes) - {"same"})

    def agents(self, *kinds: str) -> list[str]:
        """URNs of agents whose operation is one of `kinds`, in the order of their numbers."""
        found = (u for u, op in self.operations.items() if FLEET in u and op in kinds)
        return sorted(found, key=lambda urn: urn.rpartition("::")[2])


def _plain(operation: object) -> str:
    return str(operation).rpartition(".")[2].lower().replace("_", "-")


class ConfigTrial:
    """A copy of the stack's config file with other values."""

    def __init__(self, engine: PulumiEngine, file: Path, values: Mapping[str, str | None]) -> None:
        self._engine, self.file, self._values = engine, file, values
        self._was = engine.config_file.read_bytes()
        shutil.copy(engine.config_file, file)
        engine.set_config(values, file)

    def settings(self) -> Settings:
        return self._engine.settings(self.file)

    def accept(self) -> None:
        """Make it the stack's config, in one step."""
        if self._engine.config_file.read_bytes() == self._was:
            with self.file.open("rb") as file:
                os.fsync(file.fileno())
            os.replace(self.file, self._engine.config_file)
        else:
            # Somebody edited the config meanwhile; only our values are ours to write.
            self._engine.set_config(self._values)


class PulumiEngine:
    """The stack `name`; `say` gets the engine's output. Updates and previews do not ask."""

    def __init__(
        self, name: str, on_progress: OnProgress, *, verbose: bool = True, create: bool = True
    ) -> None:
        self.name = name
        self._on_progress = on_progress
        self._output = (lambda line: on_progress(line.rstrip("\n"))) if verbose else None
        self.stack = open_stack(name, create=create)
        self.config_file = ROOT / f"Pulumi.{name}.yaml"
        self._outputs: dict[str, Any] | None = None
        self._built: list[str] = []

    def run(self, *arguments: str) -> str:
        """The output of a Pulumi command on this stack. Raises EngineError."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        whole = [*arguments[:end], "--stack", self.name, *arguments[end:]]
        try:
            return str(
                self.stack.workspace.pulumi_command.run(
                    whole, str(ROOT), self.stack.workspace.env_vars
                ).stdout
            )
        except auto.CommandError as error:
            raise EngineError(tail(error)) from None

    def settings(self, file: Path | None = None, **values: str) -> Settings:
        """The settings in `file` or in the stack's own, with `values` instead of what is there.

        Raises SettingsError.
        """
        where = ["--config-file", str(file)] if file else []
        found = json.loads(self.run("config", "--json", "--show-secrets", *where))
        given = {k.partition(":")[2]: v.get("value", "") for k, v in found.items()}
        return parse_config({**given, **values})

    def set_config(self, values: Mapping[str, str | None], file: Path | None = None) -> None:
        """Write settings into `file` or the stack's own config; None: back to the default."""
        where = ["--config-file", str(file)] if file else []
        for key, value in values.items():
            # `--path` reaches into lists and objects.
            at = ["--path", f"{config_key(key)}", *where]
            if value is None:
                self.run("config", "rm", *at)
                continue
            kind = (
                "int" if value.isdecimal() else "bool" if value in ("true", "false") else "string"
            )
            self.run("config", "set", "--type", kind, *at, "--", value)

    def state(self) -> dict[str, Any]:
        """What `pulumi stack export` gives."""
        found = json.loads(self.run("stack", "export"))
        return found if isinstance(found, dict) else {}

    @contextmanager
    def trial(self, values: Mapping[str, str | None]) -> Iterator[ConfigTrial]:
        # Beside the config, so that a rename puts it in place.
        handle, path = tempfile.mkstemp(prefix=f".trial-{self.name}-", suffix=".yaml", dir=ROOT)
        os.close(handle)
        try:
            yield ConfigTrial(self, Path(path), values)
        finally:
            Path(path).unlink(missing_ok=True)

    def preview(self, trial: ConfigTrial | None = None, *, refresh: bool = False) -> Preview:
        operations: dict[str, str] = {}

        def event(e: auto.EngineEvent) -> None:
            if e.resource_pre_event and (op := _plain(e.resource_pre_event.metadata.op)) != "same":
                # A replacement tells its steps too; the first is the one that names it.
                operations.setdefault(e.resource_pre_event.metadata.urn, op)

        with self._explained():
            result = self.stack.preview(
                on_output=self._output,
                on_event=event,
                color="auto",
                refresh=refresh or None,
                config_file=str(trial.file) if trial else None,
            )
        return Preview({_plain(k): v for k, v in result.change_summary.items()}, operations)

    def replaced_agents(self, trial: ConfigTrial) -> Sequence[str]:
        kinds = ("replace", "create-replacement", "delete-replaced", "update")
        preview = self.preview(trial)
        self._built = [u for u, op in preview.operations.items() if IMAGE in u and op != "delete"]
        # A Swarm's services change in waves by themselves.
        return [u for u in preview.agents(*kinds) if "Container::" in u]

    def apply(
        self,
        trial: ConfigTrial | None,
        message: str,
        only: Sequence[str] = (),
        *,
        seconds: float = float("inf"),
        refresh: bool = False,
    ) -> None:
        late = threading.Event()

        def stop() -> None:
            late.set()
            interrupt(self._updates())

        timer = threading.Timer(seconds, stop) if seconds != float("inf") else None
        if timer:
            timer.daemon = True
            timer.start()
        try:
            with self._explained():
                self.stack.up(
                    message=f"ape-load: {message}",
                    on_output=self._output,
                    color="auto",
                    # What is done to some needs the images that it brings.
                    target=[*only, *self._built] if only else None,
                    refresh=refresh or None,
                    config_file=str(trial.file) if trial else None,
                    show_secrets=False,
                )
        except EngineError as error:
            if late.is_set():
                raise EngineError("the time given with --timeout is over") from error
            raise
        finally:
            self._outputs = None
            if timer:
                timer.cancel()

    def destroy(self) -> None:
        with self._explained():
            self.stack.destroy(
                refresh=True, on_output=self._output, color="auto", message="ape-load: down"
            )

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except auto.ConcurrentUpdateError as error:
            who = next((x.strip() for x in str(error).splitlines() if "created by" in x), "")
            raise StackLockedError(
                f"Another update of this stack is running{': ' + who if who else ''}. Wait for "
                "it; after a crash: pulumi cancel"
            ) from None
        except auto.CommandError as error:
            raise EngineError(f"Pulumi: {tail(error)}") from None

    def outputs(self) -> dict[str, Any]:
        """Of the stack, since the last update; none of them is a secret. Empty: it is not up."""
        if self._outputs is None:
            self._outputs = dict(json.loads(self.run("stack", "output", "--json")))
        return self._outputs

    def history(self) -> list[dict[str, Any]]:
        """Newest first."""
        found = json.loads(self.run("stack", "history", "--json") or "[]")
        return found if isinstance(found, list) else []

    def _engines(self) -> Iterator[tuple[psutil.Process, list[str]]]:
        """Pulumi processes in this project, with their command lines."""
        for process in psutil.process_iter(["name", "cmdline", "cwd"]):
            if process.info["name"] == "pulumi" and process.info["cwd"] == str(ROOT):
                yield process, process.info["cmdline"] or []

    def _updates(self) -> list[psutil.Process]:
        """Updates of this stack that ape-load started, by us or by one that is gone."""
        return [
            process
            for process, line in self._engines()
            if "auto.local" in line and ("--stack", self.name) in pairwise(line)
        ]

    def _others(self) -> list[psutil.Process]:
        """Updates in this project that somebody started by hand."""
        return [
            process
            for process, line in self._engines()
            if "auto.local" not in line and {"up", "update", "destroy", "refresh"} & set(line[1:3])
        ]

    def _orphans(self) -> list[psutil.Process]:
        """Language hosts and plugins in this project whose engine was killed."""
        found = []
        for process in psutil.process_iter(["name", "cmdline", "cwd", "ppid"]):
            words = " ".join(process.info["cmdline"] or [])
            if process.info["cwd"] != str(ROOT) or process.pid == os.getpid():
                continue
            if not any(
                w in words for w in ("pulumi-language-", "pulumi-resource-", "ape_docker_p")
            ):
                continue
            if process.info["ppid"] == 1:
                found.append(process)
        return found

    def recover(self) -> None:
        """Clear what an update that was cut off left: processes, locks, pending and lost ones."""
        if others := self._others():
            raise EngineError(
                f"pulumi (process {others[0].pid}) works in this project. Wait for it to end."
            )
        # By Ctrl-C the terminal has told it to stop already; twice would be at once.
        _, running = psutil.wait_procs(self._updates(), HEARD_SECONDS)
        if running:
            pids = ", ".join(str(p.pid) for p in running)
            self._on_progress(
                f"the update that was cut off still runs (process {pids}): stopping it"
            )
            interrupt(running)
            _, alive = psutil.wait_procs(running, STOP_SECONDS)
            interrupt(alive, signal.SIGKILL)
        interrupt(self._orphans(), signal.SIGKILL)
        for stale in ROOT.glob(f".trial-{self.name}-*.yaml"):
            stale.unlink(missing_ok=True)
        self.run("cancel", "--yes")
        if not (self.state().get("deployment") or {}).get("resources"):
            self.remove_orphans()
            return
        with self._explained():
            self.stack.refresh(
                clear_pending_creates=True, message="ape-load: after an interruption"
            )
        known = (self.state().get("deployment") or {}).get("resources") or []
        self.remove_orphans({str(r.get("id", "")) for r in known})

    def remove_orphans(self, known: Collection[str] = ()) -> list[str]:
        """Remove what carries the stack's labels and is not `known` by its id.

        What belongs to a Swarm's service goes with the service. Volumes stay: they hold data.
        Returns what is still in use, for example on a node that is lost.
        """
        client = connect_quietly(self.settings())
        if client is None:
            return []
        api = client.api
        filters = labels.stack_filter(current().name, self.name)
        try:
            services = api.services(filters=filters)  # type: ignore[no-untyped-call]
        except APIError:
            services = []
        for service in services:
            if service["ID"] not in known:
                self._on_progress(f"removing the left-over service {service['Spec']['Name']}")
                api.remove_service(service["ID"])  # type: ignore[no-untyped-call]
        for container in api.containers(all=True, filters=filters):
            if container["Id"] in known or SWARM_SERVICE in container["Labels"]:
                continue
            self._on_progress(
                f"removing the left-over container {container['Names'][0].lstrip('/')}"
            )
            with suppress(NotFound):
                api.remove_container(container["Id"], force=True, v=True)
        kept = []
        for network in api.networks(filters=filters):
            if network["Id"] not in known:
                self._on_progress(f"removing the left-over network {network['Name']}")
                if not remove_when_free(api.remove_network, network["Id"]):
                    kept.append(f"network {network['Name']}")
        for each in kept:
            self._on_progress(f"{each} is still in use, and stays")
        return kept


def remove_when_free(remove: Callable[[str], object], identity: str) -> bool:
    """Remove what containers that are ending may still use; whether it is gone."""
    for _ in range(FREE_TRIES):
        try:
            remove(identity)
        except NotFound:
            return True
        except APIError:
            time.sleep(1)
        else:
            return True
    return False


def interrupt(processes: Sequence[psutil.Process], number: int = signal.SIGINT) -> None:
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def connect_quietly(settings: Settings) -> docker.DockerClient | None:
    try:
        return connect(settings)
    except PreflightError:
        return None


def tail(error: BaseException) -> str:
    """The lines of a Pulumi failure that tell why."""
    found = [x.strip() for x in str(error).splitlines() if "error" in x.lower()]
    kept = [x for x in dict.fromkeys(found) if x not in ("error: update failed",)]
    return "\n".join(kept)[-2000:] or str(error)[-500:]
