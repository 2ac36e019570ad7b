"""`ape-load import gateway`: a gateway config from the original project's."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from ape_infra.cli.common import EXIT_OK, AsJson, PreconditionFailed, app, log, run_command, show
from ape_infra.config import gateway_import
from ape_infra.config.gateway_import import Converted, GatewayImportError, Note


class OrFiles(TyperGroup):
    """The command `files` is used where the first argument names no command."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] != "--help":
            args = ["files", *args]
        return super().parse_args(ctx, args)


importing = typer.Typer(
    cls=OrFiles,
    no_args_is_help=True,
    help="Convert recordings (Postman, HAR, curl), and a gateway config of the original project.",
)
app.add_typer(importing, name="import")


def read(file: Path) -> str:
    """The text of a file of bounded size. Raises PreconditionFailed."""
    try:
        with file.open("rb") as opened:
            content = opened.read(gateway_import.MAX_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise PreconditionFailed(f"{file}: {error.strerror}. Name a readable file.") from None
    except UnicodeDecodeError:
        raise PreconditionFailed(f"{file}: is not UTF-8 text. Name a JSON file.") from None
    if len(content) > gateway_import.MAX_BYTES:
        most = gateway_import.MAX_BYTES >> 20
        raise PreconditionFailed(
            f"{file}: is larger than {most} MiB. Remove dataModels and metadata from it."
        )
    return text


def write(file: Path, text: str, *, force: bool) -> None:
    """Write the file, which must not exist without `force`. Raises PreconditionFailed."""
    try:
        with file.open("w" if force else "x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        raise PreconditionFailed(
            f"{file}: exists. Name a new file, or add --force to overwrite it."
        ) from None
    except OSError as error:
        raise PreconditionFailed(f"{file}: {error.strerror}. Name another file.") from None


def lines(kind: str, notes: tuple[Note, ...]) -> list[str]:
    """One line per note, at most MAX_LINES."""
    shown = [f"{kind} {note}" for note in notes[: gateway_import.MAX_LINES]]
    more = len(notes) - len(shown)
    return [*shown, f"{kind} {more} more keys."] if more else shown


def data(found: Converted, out: Path | None) -> dict[str, object]:
    """The result for programs; the config, which may hold credentials, only if not written."""
    most = gateway_import.MAX_LINES
    return {
        "written": str(out) if out else None,
        "config": None if out else found.config,
        "dropped": [asdict(note) for note in found.dropped[:most]],
        "changed": [asdict(note) for note in found.changed[:most]],
        "more": max(0, len(found.dropped) - most) + max(0, len(found.changed) - most),
    }


@importing.command()
def gateway(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The original's gateway config (JSON).")
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="OUT", help="Write this file instead of stdout."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
    json: AsJson = False,
) -> None:
    """Convert a gateway config of the original project, and list what was dropped or changed."""

    def work() -> int:
        try:
            found = gateway_import.convert(read(file))
        except GatewayImportError as error:
            raise PreconditionFailed(f"{file}: {error}") from None
        if out:
            write(out, found.text, force=force)
        if json:
            show(data(found, out), as_json=True, text=lambda _: None)
            return EXIT_OK
        for line in [*lines("dropped", found.dropped), *lines("changed", found.changed)]:
            log(line)
        if out:
            log(f"Wrote {out}. Use it: pulumi config set gatewayConfig {out}")
        else:
            typer.echo(found.text, nl=False)
        return EXIT_OK

    run_command(work)
