"""`ape-load backup`: config, state, the files they name, and Prometheus' data in one file."""

from __future__ import annotations

import io
import json as jsonlib
import os
import stat
import tarfile
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, BinaryIO

import docker
import typer

from ape_contracts import labels
from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import preflight
from ape_infra.cli.archive import (
    CONFIG,
    DATA,
    DATA_DIR,
    GATEWAY,
    MANIFEST,
    STATE,
    VERSION,
)
from ape_infra.cli.archive_places import KINDS, ArchiveError, gateway_file, named, place
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    PreconditionFailed,
    StackName,
    app,
    log,
    run_command,
    show,
    stack_lock,
)
from ape_infra.config.project import current
from ape_infra.config.settings import Settings
from ape_infra.program.components import prometheus
from ape_infra.reporting.summary import containers


def _add(into: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = len(content), int(time.time()), 0o600
    into.addfile(entry, io.BytesIO(content))


def _private(file: Path) -> BinaryIO:
    """Open the file for writing, only for this user, also if it exists and others may read it."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        if stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.fchmod(descriptor, 0o600)
            os.ftruncate(descriptor, 0)
    except OSError:
        os.close(descriptor)
        raise
    return os.fdopen(descriptor, "wb")


def _output(file: Path) -> BinaryIO:
    try:
        return _private(file)
    except OSError as error:
        raise PreconditionFailed(
            f"{file}: {error.strerror}. Name a file that you may write with --output."
        ) from None


def _gateway_config(root: Path, name: str) -> bytes | None:
    """The gateway's config, where `restore` may write it back; None without one."""
    if not name:
        return None
    try:
        return gateway_file(root, name).read_bytes()
    except (ArchiveError, OSError) as error:
        log(f"The gateway config is not in the backup: {error}.")
        return None


def _files(
    root: Path, settings: Settings, gateway: bytes | None
) -> tuple[dict[str, str], dict[str, bytes]]:
    """The paths and the contents of the files that `restore` may write back, by part."""
    names, contents = {}, {}
    for part, name in named(settings, gateway).items():
        try:
            content = (root / name).read_bytes()
            place(root, part, name, content)
        except (ArchiveError, OSError, ValueError) as error:
            log(f"The file of {KINDS[part].setting} is not in the backup: {error}.")
            continue
        names[part], contents[part] = name, content
    return names, contents


def prometheus_data(client: docker.DockerClient, stack: str, to: Path) -> bool:
    """Copy Prometheus' data, of one moment, into the tar file `to`; False: none runs here.

    The container is paused for the copy. The copied files are like those after a power cut, which
    Prometheus' write-ahead log is made for.
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


@app.command()
def backup(
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Write to this file instead of backup-STACK-TIME.tar.gz."
        ),
    ] = None,
    stack: StackName = "dev",
    json: AsJson = False,
) -> None:
    """Write config, state, the files they name, and Prometheus' data into one file (mode 600)."""

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
            gateway = _gateway_config(engine.project.root, settings.target.gateway_config)
            names, contents = _files(engine.project.root, settings, gateway)
            manifest: dict[str, Any] = {
                "version": VERSION,
                "project": engine.project.name,
                "stack": stack,
                "created": when,
                "agents": outputs.get("agents"),
                "gateway_config": settings.target.gateway_config if gateway is not None else "",
                "files": names,
            }
            with _output(file) as raw, tarfile.open(fileobj=raw, mode="w:gz") as into:
                _add(into, MANIFEST, jsonlib.dumps(manifest).encode())
                _add(into, CONFIG, engine.config_file.read_bytes())
                # Its secrets stay encrypted.
                _add(into, STATE, engine.run("stack", "export").encode())
                if gateway is not None:
                    _add(into, GATEWAY, gateway)
                    parts.append(GATEWAY)
                for part, content in contents.items():
                    _add(into, part, content)
                    parts.append(part)
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
