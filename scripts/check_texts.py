#!/usr/bin/env python3
"""Check with the prose rules what Vale does not read by itself.

These are the string literals of Python files (except RENDERED), the names of tests, and the
comments and messages of shell scripts, the Makefile, workflows and stack configs. The script writes
each text of two or more words to a temporary file, runs Vale on it, and reports the findings at the
text's file and line.
Exit codes: 0 no findings, 1 findings.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [
    "__main__.py",
    *("ape_contracts", "ape_infra", "bench", "monitoring", "offline/provider"),
    *("policy", "scripts", "services"),
]
SCRIPTS = [
    *("Makefile", "Pulumi.*.yaml", ".ci/*", ".github/**/*.yml", "scripts/*.sh", "offline/*.sh"),
    "services/images/Dockerfile",
]
TESTS = ["tests"]
# Their string literals are not checked: they become the config files of Prometheus and Grafana, and
# a change of such a file replaces the running containers of every deployed stack.
RENDERED = [
    *("ape_infra/observability/dashboards", "ape_infra/observability/rules.py"),
    *("monitoring/rules.py", "monitoring/thresholds.py"),
]
DEFINITIONS = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
COMMENT = re.compile(r"(?:^|\s)#+ (.*)")
QUOTED = re.compile(r'"([^"]*)"')
TWO_WORDS = re.compile(r"[A-Za-z]{2,}[,.:;]? [A-Za-z]{2,}")
# Code in backticks, HTML tags and Go templates are not prose.
NOT_PROSE = re.compile(r"`[^`]*`|</?[a-zA-Z][^>]*>|\{\{[^}]*\}\}")


class Text(NamedTuple):
    path: Path
    line: int
    text: str


def literals(path: Path, tree: ast.Module) -> Iterator[Text]:
    """Every string literal of two or more words that is not a docstring."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        # ast.walk visits an f-string before its parts.
        if isinstance(node, DEFINITIONS) and node.body and isinstance(node.body[0], ast.Expr):
            skipped.add(id(node.body[0].value))
        if isinstance(node, ast.JoinedStr):
            parts = node.values
            skipped.update(map(id, parts))
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "{}" for p in parts)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        text = " ".join(NOT_PROSE.sub("{}", text).split())
        if id(node) not in skipped and TWO_WORDS.search(text):
            yield Text(path, node.lineno, text)


def test_names(path: Path, tree: ast.Module) -> Iterator[Text]:
    """The names of test functions, as sentences."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test_"):
                words = node.name.removeprefix("test_").replace("_", " ")
                yield Text(path, node.lineno, f"{words}.")


def script_texts(path: Path) -> Iterator[Text]:
    """The comments of a file with `#` comments, adjacent lines as one, and its quoted messages."""
    comment: list[str] = []
    for line, content in enumerate([*path.read_text("utf-8").splitlines(), ""], start=1):
        if found := COMMENT.search(content):
            comment.append(found[1])
        elif comment:
            yield Text(path, line - len(comment), " ".join(comment))
            comment = []
        for found in QUOTED.finditer(content):
            if TWO_WORDS.search(found[1]):
                yield Text(path, line, found[1])


def python_files(root: Path, names: Sequence[str]) -> Iterator[Path]:
    for name in names:
        at = root / name
        yield from [at] if at.is_file() else sorted(at.rglob("*.py"))


def texts(root: Path) -> Iterator[Text]:
    rendered = set(python_files(root, RENDERED))
    for path in python_files(root, SOURCES):
        if path not in rendered:
            yield from literals(path, ast.parse(path.read_text("utf-8")))
    for path in python_files(root, TESTS):
        yield from test_names(path, ast.parse(path.read_text("utf-8")))
    for pattern in SCRIPTS:
        for path in sorted(root.glob(pattern)):
            yield from script_texts(path)


def findings(found: Sequence[Text], vale: str, config: Path) -> Iterator[tuple[Text, str]]:
    """Each text that breaks a rule, with the rule and its message."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "texts.txt")
        # Text N is on line 4 * N + 1; the dot keeps rules from matching across two texts.
        file.write_text("".join(f"{item.text}\n\n.\n\n" for item in found), "utf-8")
        command = [vale, "--no-global", "--no-exit", "--output=JSON", "--minAlertLevel=error"]
        done = subprocess.run(
            [*command, f"--config={config}", str(file)], stdout=subprocess.PIPE, check=True
        )
    for alerts in json.loads(done.stdout).values():
        for alert in alerts:
            yield found[(alert["Line"] - 1) // 4], f"{alert['Check']}: {alert['Message']}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check user-visible texts with the prose rules.")
    parser.add_argument("--root", type=Path, default=ROOT, help="project folder (default: this)")
    parser.add_argument("--config", type=Path, default=ROOT / ".vale.ini", help="Vale's config")
    parser.add_argument("--vale", default="vale", help="the vale program (default: from PATH)")
    options = parser.parse_args()
    count = 0
    for item, message in findings(list(texts(options.root)), options.vale, options.config):
        print(f"{item.path.relative_to(options.root)}:{item.line}: {message}")
        print(f"    {item.text[:120]}")
        count += 1
    if count:
        print(f"Findings in texts: {count}. See docs/glossary.md.", file=sys.stderr)
    return 1 if count else 0


if __name__ == "__main__":
    sys.exit(main())
