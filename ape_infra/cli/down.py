"""`ape-load down`: remove the stack and its orphans."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from ape_contracts import labels
from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.orphans import remove_when_free
from ape_infra.checks import preflight
from ape_infra.cli.common import (
    EXIT_OK,
    NotRunning,
    StackName,
    Verbose,
    Yes,
    app,
    log,
    run_command,
    stack_lock,
)
from ape_infra.cli.display import display
from ape_infra.config.project import current

IMAGE_TYPE = "docker:index/image:Image"


@app.command()
def down(stack: StackName = "dev", yes: Yes = False, verbose: Verbose = False) -> None:
    """Remove the stack with its orphans, its data, its images and its state."""
    del yes  # `down` never asks.

    def work() -> int:
        with display("down", stack, verbose=verbose) as shown:
            kept = remove(PulumiEngine(stack, log, watcher=shown))
        if kept:
            raise NotRunning(
                f"Stack {stack} is removed, but these are still in use: {', '.join(kept)}."
            )
        log(f"Stack {stack} is removed.")
        return EXIT_OK

    run_command(work)


def remove(engine: PulumiEngine) -> list[str]:
    """Remove the stack; returns what is still in use."""
    client = preflight.connect(engine.settings())
    with stack_lock(engine, restore=False) as lock:
        lock.begin()
        if engine.settings().platform.production:
            engine.run("state", "unprotect", "--all", "--yes")
        images = built_images(engine.state())
        engine.destroy()
        kept = [*engine.remove_orphans(), *remove_leftovers(client, engine.name, images)]
        engine.stack.workspace.remove_stack(engine.name, preserve_config=True)
        forget_salt(engine.config_file)
        lock.end()
    return kept


def forget_salt(file: Path) -> None:
    """Remove Pulumi's salt from a stack config that has no secret encrypted with it."""
    text = file.read_text()
    if "secure:" not in text:
        kept = [x for x in text.splitlines(keepends=True) if not x.startswith("encryptionsalt:")]
        file.write_text("".join(kept))


def built_images(state: Mapping[str, Any]) -> list[str]:
    """The images that the stack built, from the result of `pulumi stack export`."""
    resources = (state.get("deployment") or {}).get("resources") or []
    return [
        resource["outputs"]["imageName"]
        for resource in resources
        if resource["type"] == IMAGE_TYPE and "imageName" in resource.get("outputs", {})
    ]


def remove_leftovers(client: docker.DockerClient, stack: str, images: Iterable[str]) -> list[str]:
    """Remove the stack's volumes that no state has, and those of its `images` without a container.

    Another stack may have built the same images. Returns what is still in use.
    """
    volumes = (
        client.api.volumes(filters=labels.stack_filter(current().name, stack))["Volumes"] or []
    )
    names = [volume["Name"] for volume in volumes]
    kept = [
        f"volume {name}" for name in names if not remove_when_free(client.api.remove_volume, name)
    ]
    for image in images:
        # Docker refuses where a container, even one that never started, is of the image.
        with suppress(APIError):
            client.api.remove_image(image)
    return kept
