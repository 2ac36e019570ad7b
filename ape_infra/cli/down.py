"""`ape-load down`: take the stack away, and what a crash may have left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import docker
from docker.errors import APIError

from ape_contracts import labels
from ape_infra.automation.engine import ROOT, PulumiEngine, remove_when_free
from ape_infra.checks import preflight
from ape_infra.cli.common import (
    EXIT_OK,
    NotRunning,
    StackName,
    Yes,
    app,
    log,
    run_command,
    stack_lock,
)
from ape_infra.config.project import current

IMAGE_TYPE = "docker:index/image:Image"


@app.command()
def down(stack: StackName = "dev", yes: Yes = False) -> None:
    """Take the stack away, with what a crash may have left, its images and its state."""
    del yes  # `make down` is asked for by name, and does not ask back.

    def work() -> int:
        engine = PulumiEngine(stack, log)
        client = preflight.connect(engine.settings())
        with stack_lock(engine, back=False) as lock:
            lock.begin()
            if engine.settings().platform.production:
                engine.stack.workspace.pulumi_command.run(
                    ["state", "unprotect", "--all", "--yes", "--stack", stack],
                    str(ROOT),
                    engine.stack.workspace.env_vars,
                )
            images = built_images(engine.state())
            engine.destroy()
            kept = [*engine.remove_orphans(), *forget(client, stack, images)]
            engine.stack.workspace.remove_stack(stack, preserve_config=True)
            forget_salt(ROOT / f"Pulumi.{stack}.yaml")
            lock.end()
        if kept:
            raise NotRunning(
                f"Stack {stack} is gone, but these are still in use: {', '.join(kept)}."
            )
        log(f"Stack {stack} is gone.")
        return EXIT_OK

    run_command(work)


def forget_salt(file: Path) -> None:
    """Take Pulumi's salt out of a stack's config again, where no secret was encrypted with it."""
    text = file.read_text()
    if "secure:" not in text:
        kept = [x for x in text.splitlines(keepends=True) if not x.startswith("encryptionsalt:")]
        file.write_text("".join(kept))


def built_images(state: Mapping[str, Any]) -> list[str]:
    """The images that the stack built, of what `pulumi stack export` gives."""
    resources = (state.get("deployment") or {}).get("resources") or []
    return [
        resource["outputs"]["imageName"]
        for resource in resources
        if resource["type"] == IMAGE_TYPE and "imageName" in resource.get("outputs", {})
    ]


def forget(client: docker.DockerClient, stack: str, images: Iterable[str]) -> list[str]:
    """Remove the stack's data that is in no state, and those of its `images` that nobody uses.

    Another stack may have built the same ones. Returns what is still in use.
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
