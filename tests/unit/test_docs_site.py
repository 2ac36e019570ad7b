"""The documentation: its links, and the navigation of its site."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ape_infra.cli.commands import whole
from scripts import docs_site

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *ROOT.glob("*.md")])
# A command in a block of code; a comment or another command ends it.
COMMAND = re.compile(r"(?m)^ {4}(?:\.ape/bin/)?ape-load ([a-z]+)\b([^#;&|\n]*)")
LINK = re.compile(r"\]\((?!https?:)([^)\s#]*)(?:#([^)\s]*))?\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"(?m)^#+ (.+)$", page.read_text("utf-8"))
    return {re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings}


def broken(page: Path) -> Iterator[str]:
    for path, anchor in LINK.findall(page.read_text("utf-8")):
        to = (page.parent / path).resolve() if path else page
        if not to.exists() or (anchor and to.suffix == ".md" and anchor not in anchors(to)):
            yield f"{page.relative_to(ROOT)}: {path}#{anchor}"


def test_links_of_the_documentation_lead_to_files_and_headings() -> None:
    assert [each for page in PAGES for each in broken(page)] == []


def options(command: Any) -> set[str]:
    """The options of a command, and of its subcommands."""
    own = {name for part in command.params for name in part.opts}
    return own.union(*map(options, getattr(command, "commands", {}).values()))


def test_commands_of_the_documentation_exist_with_their_options() -> None:
    known = {name: options(each) for name, each in whole().commands.items()}
    shown = [line for page in PAGES for line in COMMAND.findall(page.read_text("utf-8"))]
    assert len(shown) > 50
    for name, rest in shown:
        assert set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", rest)) <= known[name], (name, rest)


def test_navigation_has_a_section_for_each_heading_with_each_page_once() -> None:
    start = (
        "# D\n[a](a.md)\n\n## Guides\n- [a](how/a.md#x): x, [c](../C.md)\n\n"
        "## Rest\n- [b](b.md), [a](how/a.md)\n"
    )
    assert docs_site.sections(start) == {"Guides": ["how/a.md", "C.md"], "Rest": ["b.md"]}


def test_every_page_of_the_documentation_is_linked_from_its_start() -> None:
    listed = docs_site.sections((DOCS / "README.md").read_text())
    linked = {page for each in listed.values() for page in each}
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert pages - linked == {"README.md"}


@pytest.mark.parametrize(
    ("page", "link", "on_the_site"),
    [
        ("CONTRIBUTING.md", "docs/how-to/a.md#x", "how-to/a.md#x"),
        ("explanation/a.md", "../../CONTRIBUTING.md", "../CONTRIBUTING.md"),
        ("explanation/a.md", "../facts.md", "../facts.md"),
        ("README.md", "../CONTRIBUTING.md", "CONTRIBUTING.md"),
    ],
)
def test_links_that_leave_the_folder_lead_to_pages_of_the_site(
    page: str, link: str, on_the_site: str
) -> None:
    made = docs_site.relinked(f"See [a]({link}).", page, ["CONTRIBUTING.md"])
    assert made == f"See [a]({on_the_site})."


def test_a_list_below_a_line_of_text_is_a_list_on_the_site() -> None:
    text = "Alerts:\n1. one\n2. two\n   more\n- three\n"
    made = docs_site.relinked(text, "a.md", [])
    assert made == "Alerts:\n\n1. one\n2. two\n   more\n- three\n"
