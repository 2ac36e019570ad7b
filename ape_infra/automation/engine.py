"""Pulumi's engine for one stack of the current project, over the Automation API."""

from __future__ import annotations

import json
import signal
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import psutil
from docker.errors import DockerException
from pulumi import automation as auto
from requests import RequestException

from ape_contracts import report_token
from ape_infra.automation import processes
from ape_infra.automation.errors import EngineError, StackLockedError, reason
from ape_infra.automation.orphans import remove_orphans
from ape_infra.automation.preview import Preview, PreviewEvents
from ape_infra.automation.process_limits import limit_processes
from ape_infra.automation.stacks import open_stack
from ape_infra.automation.trial import ConfigTrial, remove_stale_trials, trial_config
from ape_infra.checks.preflight import PreflightError, connect
from ape_infra.config.agent_token import agent_token
from ape_infra.config.credentials import Credentials
from ape_infra.config.name_key import passphrase
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import config_key, current
from ape_infra.config.provider import key_secret
from ape_infra.config.report_key import ReportKey
from ape_infra.config.secrets import AGENT_TOKEN, TARGET_CREDENTIALS
from ape_infra.config.settings import Settings

# An update that gets SIGINT finishes the operations in flight; a container's wait is 60 s.
STOP_SECONDS = 90.0
HEARD_SECONDS = 5.0
OnProgress = Callable[[str], None]


class Watcher(Protocol):
    """Follows the updates of an engine. `event` is called in a thread of its own."""

    def began(self, operation: str, text: str) -> None: ...

    def event(self, event: auto.EngineEvent) -> None: ...

    def output(self, line: str) -> None:
        """Take a line of Pulumi's own output."""
        ...

    def ended(self, *, succeeded: bool) -> None: ...


class Printer:
    """A watcher that only passes Pulumi's own output on."""

    def __init__(self, output: OnProgress) -> None:
        self._output = output

    def began(self, operation: str, text: str) -> None:
        pass

    def event(self, event: auto.EngineEvent) -> None:
        pass

    def output(self, line: str) -> None:
        self._output(line)

    def ended(self, *, succeeded: bool) -> None:
        pass


@dataclass(frozen=True)
class RunTokens:
    """`control`: for the gateway's runs and results. `agents`: for the inference proxy."""

    control: str = field(repr=False)
    agents: str = field(repr=False)


class PulumiEngine:
    """The stack `name`; nothing asks for confirmation.

    `on_progress` gets lines for people: with `verbose` Pulumi's own output, too, unless there is a
    `watcher`, which follows the updates.
    """

    def __init__(
        self,
        name: str,
        on_progress: OnProgress,
        *,
        verbose: bool = True,
        create: bool = True,
        watcher: Watcher | None = None,
    ) -> None:
        self.name = name
        self.project = current()
        self._root = self.project.root
        self._on_progress = on_progress
        self._watcher = watcher or Printer(on_progress if verbose else lambda line: None)
        self.stack = open_stack(name, create=create)
        self.config_file = self._root / f"Pulumi.{name}.yaml"
        self._outputs: dict[str, Any] | None = None
        self._built: list[str] = []

    def run(self, *arguments: str) -> str:
        """The output of a Pulumi command on this stack. Raises EngineError."""
        end = arguments.index("--") if "--" in arguments else len(arguments)
        whole = [*arguments[:end], "--stack", self.name, *arguments[end:]]
        try:
            return str(
                self.stack.workspace.pulumi_command.run(
                    whole, str(self._root), self.stack.workspace.env_vars
                ).stdout
            )
        except auto.CommandError as error:
            raise EngineError(reason(error)) from None

    def settings(self, file: Path | None = None, **values: str) -> Settings:
        """The settings in `file` or in the stack config, with `values` over them.

        Raises SettingsError.
        """
        return parse_config({**self._config(file), **values})

    def model_key(self, settings: Settings) -> str:
        """The key of the model's provider in the stack config; empty: none is set."""
        given = self._config(None)
        return given.get(key_secret(settings.model, [k for k, v in given.items() if v]), "")

    def run_tokens(self, settings: Settings) -> RunTokens:
        """The tokens of those who conduct runs of this stack. Raises SettingsError."""
        given, key = self._config(None).get(AGENT_TOKEN, ""), self.model_key(settings)
        place = (self.project.name, self.name)
        return RunTokens(
            report_token.control(ReportKey.of(given, key, passphrase(), *place).value),
            agent_token(given, key, *place),
        )

    def credentials(self) -> Credentials:
        """What is known of the stack's targetCredentials. Raises SettingsError."""
        return Credentials.of(self._config(None).get(TARGET_CREDENTIALS))

    def _config(self, file: Path | None) -> dict[str, str]:
        """Settings and secrets in `file` or in the stack config, as text."""
        where = ["--config-file", str(file)] if file else []
        found = json.loads(self.run("config", "--json", "--show-secrets", *where))
        return {k.partition(":")[2]: v.get("value", "") for k, v in found.items()}

    def set_config(self, values: Mapping[str, str | None], file: Path | None = None) -> None:
        """Write settings into `file` or the stack config; None removes one: its default counts."""
        where = ["--config-file", str(file)] if file else []
        for key, value in values.items():
            # `--path` reaches into lists and objects.
            at = ["--path", config_key(key), *where]
            if value is None:
                self.run("config", "rm", *at)
                continue
            kind = (
                "int" if value.isdecimal() else "bool" if value in ("true", "false") else "string"
            )
            self.run("config", "set", "--type", kind, *at, "--", value)

    def trial(self, values: Mapping[str, str | None]) -> AbstractContextManager[ConfigTrial]:
        return trial_config(self, values)

    def state(self) -> dict[str, Any]:
        """The document that `pulumi stack export` prints."""
        found = json.loads(self.run("stack", "export"))
        return found if isinstance(found, dict) else {}

    def _resources(self) -> list[dict[str, Any]]:
        return (self.state().get("deployment") or {}).get("resources") or []

    def outputs(self) -> dict[str, Any]:
        """The stack's outputs since the last update, without secrets; empty: it is not up."""
        if self._outputs is None:
            self._outputs = dict(json.loads(self.run("stack", "output", "--json")))
        return self._outputs

    def history(self) -> list[dict[str, Any]]:
        """The stack's updates, newest first."""
        found = json.loads(self.run("stack", "history", "--json") or "[]")
        return found if isinstance(found, list) else []

    def preview(self, trial: ConfigTrial | None = None, *, refresh: bool = False) -> Preview:
        events = PreviewEvents()

        def on_event(event: auto.EngineEvent) -> None:
            events(event)
            self._watcher.event(event)

        with self._watched("preview"):
            result = self.stack.preview(
                on_output=self._output,
                on_event=on_event,
                color="auto",
                refresh=refresh or None,
                config_file=str(trial.file) if trial else None,
            )
        return events.result(result.change_summary)

    def replaced_agents(self, trial: ConfigTrial) -> Sequence[str]:
        """URNs of the agents' containers that applying `trial` changes, in order of their slots."""
        preview = self.preview(trial)
        self._built = preview.images
        return preview.replaced_agents

    def apply(
        self,
        trial: ConfigTrial | None,
        message: str,
        only: Sequence[str] = (),
        *,
        seconds: float = float("inf"),
        refresh: bool = False,
    ) -> None:
        """Bring the stack to `trial`, or to its stack config; `only`: just these resources.

        Raises EngineError, also after `seconds`; StackLockedError.
        """
        late = threading.Event()

        def stop() -> None:
            late.set()
            processes.interrupt(processes.own_updates(self._root, self.name))

        timer = threading.Timer(min(seconds, threading.TIMEOUT_MAX), stop)
        timer.daemon = True
        timer.start()
        try:
            with self._watched("update", message):
                self.stack.up(
                    message=f"ape-load: {message}",
                    on_output=self._output,
                    on_event=self._watcher.event,
                    color="auto",
                    # The resources of `only` need the images that are built for them.
                    target=[*only, *self._built] if only else None,
                    refresh=refresh or None,
                    config_file=str(trial.file) if trial else None,
                    show_secrets=False,
                )
            self._limit_processes()
        except EngineError as error:
            if late.is_set():
                raise EngineError("the time given with --timeout is over") from error
            raise
        finally:
            self._outputs = None
            timer.cancel()

    def _limit_processes(self) -> None:
        try:
            limit_processes(connect(self.settings()), self.project.name, self.name)
        except (PreflightError, DockerException, RequestException) as error:
            self._on_progress(f"The limits of processes could not be set: {error}")

    def destroy(self) -> None:
        with self._watched("destroy"):
            self.stack.destroy(
                refresh=True,
                on_output=self._output,
                on_event=self._watcher.event,
                color="auto",
                message="ape-load: down",
            )

    def _output(self, line: str) -> None:
        self._watcher.output(line.rstrip("\n"))

    @contextmanager
    def _watched(self, operation: str, text: str = "") -> Iterator[None]:
        """An update that the watcher follows. Raises EngineError, StackLockedError."""
        succeeded = False
        self._watcher.began(operation, text)
        try:
            with self._translated_errors():
                yield
            succeeded = True
        finally:
            self._watcher.ended(succeeded=succeeded)

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except auto.ConcurrentUpdateError as error:
            who = next((x.strip() for x in str(error).splitlines() if "created by" in x), "")
            raise StackLockedError(
                f"Another update of this stack is running{': ' + who if who else ''}. Wait for "
                "it; after a crash: pulumi cancel"
            ) from None
        except auto.CommandError as error:
            raise EngineError(f"Pulumi: {reason(error)}") from None

    def recover(self) -> None:
        """Clear what an interrupted update left: processes, locks, pending creates, orphans."""
        if found := processes.manual_updates(self._root):
            raise EngineError(
                f"pulumi (process {found[0].pid}) works in this project. Wait for it to end."
            )
        self._stop_own_updates()
        processes.interrupt(processes.orphaned_plugins(self._root), signal.SIGKILL)
        remove_stale_trials(self)
        self.run("cancel", "--yes")
        if not self._resources():
            self.remove_orphans()
            return
        with self._watched("refresh"):
            self.stack.refresh(
                clear_pending_creates=True,
                on_output=self._output,
                on_event=self._watcher.event,
                message="ape-load: after an interruption",
            )
        self.remove_orphans({str(r.get("id", "")) for r in self._resources()})

    def _stop_own_updates(self) -> None:
        # After Ctrl-C the terminal has signaled it already; a second SIGINT would stop it at once.
        updates = processes.own_updates(self._root, self.name)
        _, running = psutil.wait_procs(updates, HEARD_SECONDS)
        if not running:
            return
        pids = ", ".join(str(p.pid) for p in running)
        self._on_progress(f"the interrupted update still runs (process {pids}): stopping it")
        processes.interrupt(running)
        _, alive = psutil.wait_procs(running, STOP_SECONDS)
        processes.interrupt(alive, signal.SIGKILL)

    def remove_orphans(self, known: Collection[str] = ()) -> list[str]:
        """Remove the stack's orphans; returns what is still in use. Without a daemon: none."""
        try:
            client = connect(self.settings())
        except PreflightError:
            return []
        return remove_orphans(client, self.project.name, self.name, known, self._on_progress)
