"""Hooks of the documentation's site (mkdocs.yml): its navigation, and links that leave docs/.

The navigation follows docs/README.md, so that both lists are one: a section for each heading, a
page for each link below it. Pages of the root that are linked from there become pages of the site.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

START = "README.md"
LINK = re.compile(r"\]\(([^)\s#]+)((?:#[^)\s]*)?)\)")
# GitHub reads a list that follows a line of text; the site needs an empty line between them.
LIST = re.compile(r"(?m)^(?![-*\s#|>]|\d+\. )(.+)\n(?=(?:[-*]|\d+\.) )")


def from_docs(path: str, page: str) -> str:
    """The place of a link of `page`, relative to docs/. Of the root's pages: their names."""
    return posixpath.normpath(posixpath.join(posixpath.dirname(page), path)).removeprefix("../")


def sections(start: str) -> dict[str, list[str]]:
    """Heading -> the pages that docs/README.md links below it, each once."""
    found: dict[str, list[str]] = {}
    seen: set[str] = {START}
    for part in re.split(r"(?m)^## ", start)[1:]:
        heading, _, text = part.partition("\n")
        pages = [from_docs(path, START) for path, _ in LINK.findall(text) if path.endswith(".md")]
        found[heading] = [page for page in dict.fromkeys(pages) if page not in seen]
        seen.update(found[heading])
    return found


def relinked(text: str, page: str, root_pages: Iterable[str]) -> str:
    """Links to pages of the root lead to their copies."""
    known = set(root_pages)

    def link(found: re.Match[str]) -> str:
        path, anchor = found.groups()
        if page in known:
            path = path.removeprefix("docs/")
        elif path.startswith("../") and (place := from_docs(path, page)) in known | {START}:
            path = posixpath.relpath(place, posixpath.dirname(page) or ".")
        return f"]({path}{anchor})"

    return LIST.sub(r"\1\n\n", LINK.sub(link, text))


def root_pages(docs: Path) -> list[str]:
    """The pages of the root that docs/README.md links."""
    listed = [page for each in sections((docs / START).read_text()).values() for page in each]
    return [page for page in listed if not (docs / page).exists() and (docs.parent / page).exists()]


def on_config(config: Any) -> Any:
    """Set the navigation; with --strict, a page that is not in it fails."""
    listed = sections((Path(config.docs_dir) / START).read_text())
    config.nav = [{"Start": START}, *({heading: each} for heading, each in listed.items() if each)]
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the pages of the root."""
    from mkdocs.structure.files import File

    docs = Path(config.docs_dir)
    for page in root_pages(docs):
        text = (docs.parent / page).read_text()
        files.append(File.generated(config, page, content=text))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Make the links hold on the site."""
    docs = Path(config.docs_dir)
    return relinked(markdown, page.file.src_uri, root_pages(docs))
