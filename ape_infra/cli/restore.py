"""`ape-load restore`: a stack from the file that `ape-load backup` wrote."""

from __future__ import annotations

import json as jsonlib
import tarfile
import tempfile
from pathlib import Path
from typing import Annotated, Any

import docker
import typer
from docker.errors import ImageNotFound
from pulumi.automation import Deployment

from ape_contracts import labels
from ape_infra.automation.engine import PulumiEngine
from ape_infra.cli.backup import CONFIG, DATA, DATA_DIR, GATEWAY, MANIFEST, STATE, VERSION
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
)
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.program.components import prometheus
from ape_infra.reporting.summary import containers


def fill_volume(client: docker.DockerClient, settings: Settings, stack: str, data: Path) -> None:
    """Create the volume that the stack will use, with the data in it. Raises PreconditionFailed."""
    name = f"{current().name}-{stack}-{prometheus.DATA}"
    marks = {labels.PROJECT: current().name, labels.STACK: stack, labels.SERVICE: prometheus.DATA}
    client.api.create_volume(name, labels=marks)
    try:
        # Docker can copy files into a container that never starts; its volume keeps them.
        made = client.api.create_container(
            settings.images.prometheus,
            volumes=[DATA_DIR],
            host_config=client.api.create_host_config(binds=[f"{name}:{DATA_DIR}"]),
        )
    except ImageNotFound:
        raise PreconditionFailed(
            f"Image {settings.images.prometheus} is not available. Pull it, or run: "
            "offline/images.sh"
        ) from None
    try:
        with data.open("rb") as file:
            client.api.put_archive(made["Id"], "/", file)
    finally:
        client.api.remove_container(made["Id"], force=True)


def _unpacked(file: Path, folder: Path) -> dict[str, Any]:
    """The manifest; the parts are in `folder`. Raises PreconditionFailed."""
    try:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
        manifest: dict[str, Any] = jsonlib.loads((folder / MANIFEST).read_text())
    except (OSError, tarfile.TarError, ValueError) as error:
        raise PreconditionFailed(
            f"{file}: is not a backup ({error}). Name a file that `ape-load backup` wrote."
        ) from None
    if manifest.get("version") != VERSION:
        raise PreconditionFailed(
            f"{file}: has format {manifest.get('version')}, and this version reads {VERSION}."
        )
    if manifest.get("project") != current().name:
        raise PreconditionFailed(
            f"{file}: is a backup of project {manifest.get('project')}, and this project is "
            f"{current().name}."
        )
    return manifest


def _opened(
    folder: Path, manifest: dict[str, Any], *, verbose: bool
) -> tuple[PulumiEngine, Settings, docker.DockerClient]:
    """The stack with the backup's config, which is kept only where the stack is not up.

    Raises PreconditionFailed, SettingsError, PreflightError.
    """
    stack, root = str(manifest["stack"]), current().root
    config = root / f"Pulumi.{stack}.yaml"
    kept = config.read_bytes() if config.exists() else None
    # Before the stack is created, which must happen with the salt of this config.
    config.write_bytes((folder / CONFIG).read_bytes())
    try:
        engine = PulumiEngine(stack, log, verbose=verbose)
        if engine.outputs():
            raise PreconditionFailed(
                f"Stack {stack} is up. Remove it first: ape-load down --stack {stack}"
            )
        if (part := folder / GATEWAY).exists():
            gateway = root / manifest["gateway_config"]
            gateway.parent.mkdir(parents=True, exist_ok=True)
            gateway.write_bytes(part.read_bytes())
        settings = engine.settings()
        client = check_before_update(engine, settings)
    except BaseException:
        if kept is not None:
            config.write_bytes(kept)
        raise
    return engine, settings, client


def _restore(folder: Path, manifest: dict[str, Any], *, verbose: bool) -> dict[str, Any]:
    """Bring the stack up; returns its outputs."""
    engine, settings, client = _opened(folder, manifest, verbose=verbose)
    with stack_lock(engine, restore=False) as lock:
        lock.begin()
        if (part := folder / DATA).exists():
            fill_volume(client, settings, engine.name, part)
        if containers(client, current().name, engine.name):
            # Only the state was lost: take over what runs. On an empty machine the backup's state
            # would list images and containers that do not exist.
            state = jsonlib.loads((folder / STATE).read_text())
            engine.stack.import_stack(
                Deployment(version=state["version"], deployment=state["deployment"])
            )
            engine.recover()
        apply_in_steps(engine, settings, f"restore of {manifest['created']}")
        lock.end()
    return engine.outputs()


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="The file that `ape-load backup` wrote.")],
    stack: Annotated[
        str | None, typer.Option("--stack", "-s", help="Name of the stack; that of the backup.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Restore a stack from a backup, on this machine or an empty one, with the same passphrase."""

    def work() -> int:
        with tempfile.TemporaryDirectory() as name:
            manifest = _unpacked(file, Path(name))
            if stack not in (None, manifest["stack"]):
                raise PreconditionFailed(
                    f"{file}: has stack {manifest['stack']}, and a stack keeps its name."
                )
            outputs = _restore(Path(name), manifest, verbose=not json)
        data = {
            "stack": manifest["stack"],
            "agents": outputs["agents"],
            "created": manifest["created"],
        }
        text = "Stack {stack} is restored as of {created}: {agents} agents.".format(**data)
        show(data, as_json=json, text=lambda to: to.print(text))
        return EXIT_OK

    run_command(work)
