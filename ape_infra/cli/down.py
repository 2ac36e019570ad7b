"""`ape-load down`: take the stack away, and what a crash may have left."""

from __future__ import annotations

from pathlib import Path

import docker

from ape_infra import preflight
from ape_infra.cli.common import EXIT_OK, StackName, Yes, app, changing, guarded, say
from ape_infra.engine import ROOT, PulumiEngine
from ape_infra.settings import PROJECT
from ape_infra.summary import containers
from ape_infra.workload import of_stack


@app.command()
def down(stack: StackName = "dev", yes: Yes = False) -> None:
    """Take the stack away, with what a crash may have left, its images and its state."""
    del yes  # `make down` is asked for by name, and does not ask back.

    def work() -> int:
        engine = PulumiEngine(stack, say)
        client = preflight.connect(engine.settings())
        with changing(engine, back=False) as lock:
            lock.begin()
            if engine.settings().production:
                engine.stack.workspace.pulumi_command.run(
                    ["state", "unprotect", "--all", "--yes", "--stack", stack],
                    str(ROOT),
                    engine.stack.workspace.env_vars,
                )
            engine.destroy()
            sweep(client, stack)
            engine.stack.workspace.remove_stack(stack, preserve_config=True)
            forget_salt(ROOT / f"Pulumi.{stack}.yaml")
            lock.end()
        say(f"Stack {stack} is gone.")
        return EXIT_OK

    guarded(work)


def forget_salt(file: Path) -> None:
    """Take Pulumi's salt out of a stack's config again, where no secret was encrypted with it."""
    text = file.read_text()
    if "secure:" not in text:
        kept = [x for x in text.splitlines(keepends=True) if not x.startswith("encryptionsalt:")]
        file.write_text("".join(kept))


def sweep(client: docker.DockerClient, stack: str) -> None:
    """Remove what carries the stack's labels and is in no state any more, and unused images."""
    for container in containers(client, PROJECT, stack):
        say(f"removing the left-over container {container['Names'][0].lstrip('/')}")
        client.api.remove_container(container["Id"], force=True, v=True)
    filters = of_stack(PROJECT, stack)
    for network in client.api.networks(filters=filters):
        client.api.remove_network(network["Id"])
    for volume in client.api.volumes(filters=filters)["Volumes"] or []:
        client.api.remove_volume(volume["Name"])
    used = {c["ImageID"] for c in client.api.containers(all=True)}
    for image in client.api.images(filters={"label": "ape.image"}):
        if image["Id"] not in used:
            client.api.remove_image(image["Id"], force=True)
