"""`ape-load import FILE...`: document, settings and sign-in of what people have."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from ape_contracts.text import plain
from ape_infra.cli.common import EXIT_OK, AsJson, PreconditionFailed, log, run_command, show
from ape_infra.cli.import_gateway import importing
from ape_infra.config import imports, project
from ape_infra.config.imports import DOCUMENT, SETTINGS, Imported, ImportProblem
from ape_infra.config.imports.model import Notes, Recording

MAX_FILES = 100


def read(file: Path, notes: Notes) -> Recording:
    """The requests of a file of bounded size. Raises PreconditionFailed."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(imports.MAX_BYTES + 1)
        return imports.read(raw, file.name, notes)
    except OSError as error:
        raise PreconditionFailed(f"{file}: {error.strerror}. Name a readable file.") from None
    except ValueError:
        raise PreconditionFailed(f"{file}: is not a path. Name a readable file.") from None
    except ImportProblem as error:
        raise PreconditionFailed(f"{file}: {error}") from None


def check_folder(folder: Path, *, force: bool) -> None:
    """Raise PreconditionFailed unless both files can be written."""
    if not folder.is_dir():
        raise PreconditionFailed(f"{folder}: is not a folder. Name one with --out.")
    found = [str(folder / name) for name in (DOCUMENT, SETTINGS) if (folder / name).exists()]
    if found and not force:
        raise PreconditionFailed(
            f"{' and '.join(found)}: exists. Name another folder with --out, or add --force to "
            "overwrite it."
        )


def write(folder: Path, texts: dict[str, str]) -> None:
    """Write all files, or none. Raises PreconditionFailed."""
    made: list[tuple[str, Path]] = []
    try:
        for name, text in texts.items():
            handle, temporary = tempfile.mkstemp(prefix=f".{name}.", dir=folder)
            made.append((temporary, folder / name))
            with open(handle, "w", encoding="utf-8", errors="replace") as opened:
                opened.write(text)
        for temporary, file in made:
            os.replace(temporary, file)
    except OSError as error:
        raise PreconditionFailed(
            f"{folder}: {error.strerror}. Name another folder with --out."
        ) from None
    finally:
        for temporary, _ in made:
            Path(temporary).unlink(missing_ok=True)


def data(found: Imported, folder: Path) -> dict[str, Any]:
    """The result for programs."""
    return {
        "written": [str(folder / DOCUMENT), str(folder / SETTINGS)],
        "kinds": list(found.kinds),
        "requests": found.requests,
        "operations": found.operations,
        "settings": sorted(found.settings),
        "secrets": [
            {"what": plain(secret.what), "count": count, "credential": secret.credential or None}
            for secret, count in found.secrets
        ],
        "command": found.command or None,
        "notes": found.notes.plain(),
    }


def lines(found: Imported) -> list[str]:
    """What was read, what is to be looked over, and the commands that set the secrets."""
    made = [f"{found.requests} requests became {found.operations} operations."]
    for note in found.notes.plain():
        named = ", ".join(note["places"][:3])
        more = ", …" if len(note["places"]) > 3 else ""
        times = f" ({note['count']} times)" if note["count"] > 1 else ""
        made.append(f"note: {note['reason']}{times}{f': {named}{more}' if named else ''}")
    for secret, count in found.secrets:
        times = f" ({count} times)" if count > 1 else ""
        rest = f"credential {secret.credential}" if secret.credential else "not in the files"
        made.append(f"secret: {secret.what}{times}: {rest}")
    if found.command:
        made.append(f"Set the credentials: {found.command}")
    return [plain(line) for line in made]


def relative(folder: Path) -> str:
    """The path of the document as the settings have it: relative to the project, if it is below."""
    file = (folder / DOCUMENT).resolve()
    root = project.current().root.resolve()
    return str(file.relative_to(root)) if file.is_relative_to(root) else str(file)


def convert(files: Sequence[Path], host: str, folder: Path) -> Imported:
    """Read all files, and return what becomes of them. Raises PreconditionFailed."""
    if len(files) > MAX_FILES:
        raise PreconditionFailed(f"{len(files)} files are above the maximum of {MAX_FILES}.")
    notes = Notes()
    recordings = [read(file, notes) for file in files]
    try:
        return imports.convert(
            recordings,
            notes,
            host=host,
            openapi=relative(folder),
            project=project.current().name,
            title=f"Imported from {', '.join(file.name for file in files)}",
        )
    except ImportProblem as error:
        raise PreconditionFailed(f"{files[0]}: {error}") from None


@importing.command("files")
def files_(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE...", help="Postman collections (2.1), HAR files, or curl commands."
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Write the files into this folder.")
    ] = Path("."),
    host: Annotated[
        str, typer.Option("--host", help="Host of the target; without it, the most frequent one.")
    ] = "",
    force: Annotated[bool, typer.Option("--force", help="Overwrite the files in DIR.")] = False,
    json: AsJson = False,
) -> None:
    """Convert recordings; `files` may be left out: ape-load import FILE..."""

    def work() -> int:
        check_folder(out, force=force)
        found = convert(files, host, out)
        write(out, {DOCUMENT: found.document_text, SETTINGS: found.settings_text})
        if json:
            show(data(found, out), as_json=True, text=lambda _: None)
            return EXIT_OK
        for line in lines(found):
            log(line)
        log(f"Wrote {out / DOCUMENT} and {out / SETTINGS}. Look them over before you use them.")
        return EXIT_OK

    run_command(work)
