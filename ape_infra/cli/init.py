"""`ape-load init`: a project of one's own in a new folder."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from ape_contracts.providers import PROVIDERS
from ape_infra.cli.common import EXIT_OK, PreconditionFailed, Yes, app, log, run_command
from ape_infra.cli.new_project import NAME, ModelChoice, NewProject, valid_name
from ape_infra.config.project import PROJECT_FILE
from ape_infra.config.target import DEMO_TARGET, MCP

VLLM_URL = "http://host.docker.internal:8000/v1"
# The models of the project itself, and the providers.
Model = StrEnum("Model", ["offline", "recorded", *PROVIDERS])  # type: ignore[misc]


def on_terminal() -> bool:
    """Whether a question can be answered."""
    return sys.stdin.isatty()


def ask(question: str, default: str) -> str:
    """Ask on the terminal; an empty answer is the default."""
    return str(typer.prompt(question, default=default, err=True))


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise PreconditionFailed unless `folder` is missing, empty, or to be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise PreconditionFailed(f"{folder}: is a file. Name a new folder.")
    if folder.exists() and any(folder.iterdir()) and not force:
        raise PreconditionFailed(
            f"{folder}: is not empty. Name a new folder, or add --force to overwrite the files of "
            "a project in it."
        )


def check_has_document(target: str) -> None:
    """Raise PreconditionFailed unless the target is one that a document describes."""
    if target == DEMO_TARGET:
        raise PreconditionFailed("--openapi describes a target of your own. Add --target URL.")
    if target.startswith(MCP):
        raise PreconditionFailed(
            "--openapi does not go with an MCP server, which lists its tools. Remove it."
        )


def complete(choice: ModelChoice, *, asking: bool) -> ModelChoice:
    """Ask for what the provider has no default of. Raises PreconditionFailed."""
    name, url = choice.name, choice.base_url
    if choice.lacks_url:
        url = ask("Base URL of the model", VLLM_URL) if asking else None
    if choice.lacks_name:
        name = ask("Name of the model", "") if asking else None
    found = ModelChoice(choice.kind, name, url)
    missing = [("--model-url URL", found.lacks_url), ("--model-name NAME", found.lacks_name)]
    if options := " and ".join(option for option, lacks in missing if lacks):
        raise PreconditionFailed(
            f"--model {choice.kind}: this provider has no default. Add {options}."
        )
    if choice.kind not in PROVIDERS and (name or url):
        raise PreconditionFailed("--model-name and --model-url belong to a provider. Add --model.")
    return found


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the new project.")],
    target: Annotated[
        str | None, typer.Option("--target", help="Test this URL instead of the demo shop.")
    ] = None,
    openapi: Annotated[
        Path | None,
        typer.Option("--openapi", help="Take the endpoints from this OpenAPI file."),
    ] = None,
    model: Annotated[
        Model | None, typer.Option("--model", help="Use this model, or the model of this provider.")
    ] = None,
    model_name: Annotated[
        str | None, typer.Option("--model-name", help="Name the provider's model.")
    ] = None,
    model_url: Annotated[
        str | None, typer.Option("--model-url", help="Set the base URL of the provider.")
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", help="Name the project; without it, like DIR.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Write into a folder that is not empty.")
    ] = False,
    yes: Yes = False,
) -> None:
    """Create a project of your own: settings, scenario, gateway config and program."""

    def work() -> int:
        check_folder(folder, force=force)
        asking = on_terminal() and not yes
        url, file, kind = target, openapi, model
        if url is None:
            url = ask("URL of the target, or demo", DEMO_TARGET) if asking else DEMO_TARGET
            if url != DEMO_TARGET and not url.startswith(MCP) and file is None and asking:
                answer = ask("OpenAPI file of the target, or none", "none")
                file = None if answer == "none" else Path(answer)
        if kind is None:
            kinds = ", ".join(Model)
            answer = ask(f"Model ({kinds})", "offline") if asking else "offline"
            if answer not in list(Model):
                raise PreconditionFailed(f"Model {answer}: is not one of {kinds}.")
            kind = Model(answer)
        chosen_model = complete(ModelChoice(kind.value, model_name, model_url), asking=asking)
        if file:
            check_has_document(url)
        chosen = name or valid_name(folder.resolve().name)
        if not NAME.fullmatch(chosen):
            raise PreconditionFailed(
                f"--name {chosen}: is not a valid name. Use up to 40 lower-case letters, digits, "
                "dots, hyphens and underscores, and begin with a letter or digit."
            )
        NewProject(chosen, url, file, chosen_model).write(folder)
        log(f"Project {chosen} is in {folder / PROJECT_FILE}. Start it: cd {folder} && ape-load up")
        return EXIT_OK

    run_command(work)
