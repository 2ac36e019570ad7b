"""`ape-load restore`: a stack from the file that `ape-load backup` wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import docker
import typer
from docker.errors import ImageNotFound
from pulumi.automation import Deployment

from ape_contracts import labels
from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.errors import NoStackError
from ape_infra.cli.archive import DATA_DIR, Backup, Written, opened, written
from ape_infra.cli.archive_places import ArchiveError
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    app,
    apply_in_steps,
    check_before_update,
    log,
    run_command,
    show,
    stack_lock,
    stack_name,
)
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.program.components import prometheus
from ape_infra.reporting.summary import containers


def fill_volume(client: docker.DockerClient, settings: Settings, stack: str, data: Path) -> None:
    """Create the volume that the stack will use, with the data in it. Raises PreconditionFailed.

    A volume that is new is removed again if that fails.
    """
    name = f"{current().name}-{stack}-{prometheus.DATA}"
    marks = {labels.PROJECT: current().name, labels.STACK: stack, labels.SERVICE: prometheus.DATA}
    existed = name in {
        v["Name"] for v in client.api.volumes(filters={"name": name})["Volumes"] or ()
    }
    client.api.create_volume(name, labels=marks)
    try:
        _copy_into(client, settings.images.prometheus, name, data)
    except BaseException:
        if not existed:
            client.api.remove_volume(name, force=True)
        raise


def _copy_into(client: docker.DockerClient, image: str, volume: str, data: Path) -> None:
    try:
        # Docker can copy files into a container that never starts; its volume keeps them.
        made = client.api.create_container(
            image,
            volumes=[DATA_DIR],
            host_config=client.api.create_host_config(binds=[f"{volume}:{DATA_DIR}"]),
        )
    except ImageNotFound:
        raise PreconditionFailed(
            f"Image {image} is not available. Pull it, or run: offline/images.sh"
        ) from None
    try:
        with data.open("rb") as file:
            client.api.put_archive(made["Id"], "/", file)
    finally:
        client.api.remove_container(made["Id"], force=True)


@contextmanager
def _engine(stack: str, files: Written, *, verbose: bool) -> Iterator[PulumiEngine]:
    """The stack; a new one is removed again after an error before the files are final."""
    try:
        engine, new = PulumiEngine(stack, log, verbose=verbose, create=False), False
    except NoStackError:
        engine, new = PulumiEngine(stack, log, verbose=verbose), True
    try:
        yield engine
    except BaseException:
        if new and not files.final:
            engine.stack.workspace.remove_stack(stack)
        raise


def _places(backup: Backup) -> dict[Path, bytes]:
    """The files to write. Raises PreconditionFailed."""
    try:
        return backup.files(current().root)
    except ArchiveError as error:
        raise PreconditionFailed(f"{error}.") from None


def _opened(file: Path, folder: Path) -> Backup:
    """The checked backup. Raises PreconditionFailed."""
    try:
        return opened(file, folder, current().name)
    except ArchiveError as error:
        raise PreconditionFailed(
            f"{file}: {error}. Name a file that `ape-load backup` wrote."
        ) from None


def _restore(backup: Backup, *, verbose: bool) -> dict[str, Any]:
    """Bring the stack up; returns its outputs.

    The files are written before the stack is created, which must happen with the salt of this
    config; they stay if all checks pass. Raises PreconditionFailed, SettingsError, PreflightError.
    """
    manifest = backup.manifest
    with (
        written(_places(backup)) as files,
        _engine(manifest.stack, files, verbose=verbose) as engine,
    ):
        if engine.outputs():
            raise PreconditionFailed(
                f"Stack {engine.name} is up. Remove it first: ape-load down --stack {engine.name}"
            )
        settings = engine.settings()
        client = check_before_update(engine, settings)
        with stack_lock(engine, restore=False) as lock:
            if backup.data:
                fill_volume(client, settings, engine.name, backup.data)
            files.keep()
            lock.begin()
            _apply(engine, settings, client, backup)
            lock.end()
        return engine.outputs()


def _apply(
    engine: PulumiEngine, settings: Settings, client: docker.DockerClient, backup: Backup
) -> None:
    if containers(client, current().name, engine.name):
        # Only the state was lost: take over what runs. On an empty machine the backup's state
        # would list images and containers that do not exist.
        state = backup.state
        engine.stack.import_stack(
            Deployment(version=state["version"], deployment=state["deployment"])
        )
        engine.recover()
    apply_in_steps(engine, settings, f"restore of {backup.manifest.created}")


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The file that `ape-load backup` wrote.")],
    stack: Annotated[
        str | None,
        typer.Option(
            "--stack", "-s", callback=stack_name, help="Name of the stack; that of the backup."
        ),
    ] = None,
    json: AsJson = False,
) -> None:
    """Restore a stack from a backup, on this machine or an empty one, with the same passphrase."""

    def work() -> int:
        with tempfile.TemporaryDirectory() as name:
            backup = _opened(file, Path(name))
            made = backup.manifest
            if stack not in (None, made.stack):
                raise PreconditionFailed(
                    f"{file}: has stack {made.stack}, and a stack keeps its name."
                )
            outputs = _restore(backup, verbose=not json)
        data = {"stack": made.stack, "agents": outputs["agents"], "created": made.created}
        text = "Stack {stack} is restored as of {created}: {agents} agents.".format(**data)
        show(data, as_json=json, text=lambda to: to.print(text))
        return EXIT_OK

    run_command(work)
