"""`ape-load backup`: config, state, gateway config and Prometheus' data in one file."""

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

from ape_contracts import labels
from ape_infra.automation.engine import PulumiEngine
from ape_infra.checks import preflight
from ape_infra.cli.common import (
    EXIT_OK,
    AsJson,
    StackName,
    app,
    log,
    run_command,
    show,
    stack_lock,
)
from ape_infra.config.project import current
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
                "project": engine.project.name,
                "stack": stack,
                "created": when,
                "agents": outputs.get("agents"),
                "gateway_config": settings.target.gateway_config,
            }
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as raw, tarfile.open(fileobj=raw, mode="w:gz") as into:
                _add(into, MANIFEST, jsonlib.dumps(manifest).encode())
                _add(into, CONFIG, engine.config_file.read_bytes())
                # Its secrets stay encrypted.
                _add(into, STATE, engine.run("stack", "export").encode())
                if settings.target.gateway_config:
                    _add(
                        into,
                        GATEWAY,
                        (engine.project.root / settings.target.gateway_config).read_bytes(),
                    )
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
