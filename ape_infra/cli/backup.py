"""`ape-load backup` and `restore`: config, state, gateway config and Prometheus' data, one file."""

from __future__ import annotations

import io
import json as jsonlib
import os
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import docker
import typer
from docker.errors import ImageNotFound
from pulumi.automation import Deployment

from ape_contracts import labels
from ape_infra.automation.engine import ROOT, PulumiEngine
from ape_infra.checks import preflight
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    StackName,
    app,
    apply_in_steps,
    log,
    run_command,
    show,
    stack_lock,
)
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.program.components import prometheus
from ape_infra.reporting.summary import containers

VERSION = 1
DATA_DIR = "/prometheus"
MANIFEST, CONFIG, STATE = "manifest.json", "stack.yaml", "state.json"
GATEWAY, DATA = "gateway.json", "prometheus.tar"


def _add(into: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    into.addfile(entry, io.BytesIO(content))


def prometheus_data(client: docker.DockerClient, stack: str, to: Path) -> bool:
    """Copy Prometheus' data, as of one moment, into the tar file `to`; False: it is not here.

    The container is paused for the copy: what Prometheus reads back then is what a power cut
    leaves, and its write-ahead log is made for that.
    """
    here = [
        c["Id"]
        for c in containers(client, current().name, stack)
        if c["Labels"][labels.SERVICE] == prometheus.NAME and c["State"] == "running"
    ]
    if not here:
        return False
    client.api.pause(here[0])
    try:
        stream, _ = client.api.get_archive(here[0], DATA_DIR)
        with to.open("wb") as file:
            for chunk in stream:
                file.write(chunk)
    finally:
        client.api.unpause(here[0])
    return True


def fill_volume(client: docker.DockerClient, settings: Settings, stack: str, data: Path) -> None:
    """Make the volume that the stack will use, with the data in it. Raises PreconditionFailed."""
    name = f"{current().name}-{stack}-{prometheus.DATA}"
    marks = {labels.PROJECT: current().name, labels.STACK: stack, labels.SERVICE: prometheus.DATA}
    client.api.create_volume(name, labels=marks)
    try:
        # A container that never starts can be copied into; its volume keeps what was copied.
        made = client.api.create_container(
            settings.images.prometheus,
            volumes=[DATA_DIR],
            host_config=client.api.create_host_config(binds=[f"{name}:{DATA_DIR}"]),
        )
    except ImageNotFound:
        raise PreconditionFailed(
            f"{settings.images.prometheus} is not here. Pull or load it (offline/images.sh)."
        ) from None
    try:
        with data.open("rb") as file:
            client.api.put_archive(made["Id"], "/", file)
    finally:
        client.api.remove_container(made["Id"], force=True)


@app.command()
def backup(
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The file; backup-STACK-TIME.tar.gz.")
    ] = None,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Write config, state, gateway config and Prometheus' data into one file (mode 600)."""

    def work() -> int:
        engine = PulumiEngine(stack, log, create=False)
        settings = engine.settings()
        client = preflight.connect(settings)
        outputs = engine.outputs()
        when = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        file = output or Path(f"backup-{stack}-{when}.tar.gz")
        parts = [MANIFEST, CONFIG, STATE]
        with tempfile.TemporaryDirectory() as folder, stack_lock(engine):
            data = Path(folder) / DATA
            manifest: dict[str, Any] = {
                "version": VERSION,
                "project": current().name,
                "stack": stack,
                "created": when,
                "agents": outputs.get("agents"),
                "gateway_config": settings.target.gateway_config,
            }
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as into:
                _add(into, MANIFEST, jsonlib.dumps(manifest).encode())
                _add(into, CONFIG, engine.config_file.read_bytes())
                # Secrets stay encrypted in it.
                _add(into, STATE, engine.run("stack", "export").encode())
                if settings.target.gateway_config:
                    _add(into, GATEWAY, (ROOT / settings.target.gateway_config).read_bytes())
                    parts.append(GATEWAY)
                if prometheus_data(client, stack, data):
                    into.add(data, DATA)
                    parts.append(DATA)
        done = {"file": str(file.resolve()), "parts": parts, "bytes": file.stat().st_size}
        if DATA not in parts:
            log("No Prometheus runs on this machine; its data is not in the backup.")
        show(
            done,
            as_json=json,
            text=lambda to: to.print(f"Written: {file.resolve()} ({', '.join(parts)})"),
        )
        return EXIT_OK

    run_command(work)


def _unpacked(file: Path, folder: Path) -> dict[str, Any]:
    """The manifest; the parts are in `folder`. Raises PreconditionFailed."""
    try:
        with tarfile.open(file) as archive:
            archive.extractall(folder, filter="data")
        manifest = jsonlib.loads((folder / MANIFEST).read_text())
    except (OSError, tarfile.TarError, ValueError) as error:
        raise PreconditionFailed(f"{file}: is no backup of ape-load ({error}).") from None
    if manifest.get("version") != VERSION or manifest.get("project") != current().name:
        raise PreconditionFailed(
            f"{file}: was written by another version ({manifest.get('version')})."
        )
    found: dict[str, Any] = manifest
    return found


@app.command()
def restore(
    file: Annotated[Path, typer.Argument(help="What `ape-load backup` wrote.")],
    stack: Annotated[
        str | None, typer.Option("--stack", "-s", help="Its name; that of the backup.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Bring a stack back from a backup, on this or an empty machine; the passphrase must fit."""

    def work() -> int:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            manifest = _unpacked(file, folder)
            target = stack or str(manifest["stack"])
            if target != manifest["stack"]:
                raise PreconditionFailed(
                    f"{file}: holds stack {manifest['stack']}, and a stack keeps its name."
                )
            config = ROOT / f"Pulumi.{target}.yaml"
            kept = config.read_bytes() if config.exists() else None
            # First of all: the stack must be made with the salt of this config.
            config.write_bytes((folder / CONFIG).read_bytes())
            try:
                engine = PulumiEngine(target, log, verbose=not json)
                if engine.outputs():
                    raise PreconditionFailed(
                        f"Stack {target} is up. Take it down first: ape-load down --stack {target}"
                    )
                if (part := folder / GATEWAY).exists():
                    place = ROOT / manifest["gateway_config"]
                    place.parent.mkdir(parents=True, exist_ok=True)
                    place.write_bytes(part.read_bytes())
                settings = engine.settings()
                client = preflight.check(settings, current().name, target, on_warning=log)
            except BaseException:
                if kept is not None:
                    config.write_bytes(kept)
                raise
            with stack_lock(engine, back=False) as lock:
                lock.begin()
                if (part := folder / DATA).exists():
                    fill_volume(client, settings, target, part)
                if containers(client, current().name, target):
                    # Only the state was lost: take over what runs. On an empty machine the state
                    # would claim images and containers that are not there.
                    state = jsonlib.loads((folder / STATE).read_text())
                    engine.stack.import_stack(
                        Deployment(version=state["version"], deployment=state["deployment"])
                    )
                    engine.recover()
                apply_in_steps(engine, settings, f"restore of {manifest['created']}")
                lock.end()
            outputs = engine.outputs()
        show(
            {"stack": target, "agents": outputs["agents"], "created": manifest["created"]},
            as_json=json,
            text=lambda to: to.print(
                f"Stack {target} is back as of {manifest['created']}: {outputs['agents']} agents."
            ),
        )
        return EXIT_OK

    run_command(work)
