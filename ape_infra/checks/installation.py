"""Checks of what is installed: Python, the project, Pulumi, its login and its Docker plugin."""

from __future__ import annotations

import platform
import re
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ape_contracts import VERSION
from ape_infra.checks.check import Check
from ape_infra.checks.host import Host

MIN_PYTHON, MIN_GO = (3, 11), (1, 26)
CLOUD = "https://api.pulumi.com"
SETUP = "Run: make setup"
INSTALL_PULUMI = "Install it: https://www.pulumi.com/docs/install/"


def python(host: Host, found: tuple[int, int] = sys.version_info[:2]) -> Iterator[Check]:
    observed = f"Python {platform.python_version()} at {sys.executable}."
    if found < MIN_PYTHON:
        need = ".".join(map(str, MIN_PYTHON))
        yield Check("python", "fail", observed, f"Install Python {need} or later.")
    else:
        yield Check("python", "ok", observed)


def project(host: Host) -> Iterator[Check]:
    """The project, and whether a clone of it was set up."""
    observed = f"ape-load {VERSION} at {host.sources}"
    if not host.is_clone or (host.sources / ".ape" / "run").is_file():
        yield Check("project", "ok", f"{observed}.")
    else:
        yield Check("project", "warn", f"{observed}, which is not set up.", f"{SETUP}.")


def pulumi(host: Host) -> Iterator[Check]:
    """The engine, its host for Python programs, and Go where it would have to be built."""
    path, remedy = host.find("pulumi"), SETUP if host.is_clone else INSTALL_PULUMI
    if path is None:
        yield Check("pulumi", "fail", "the command pulumi is not on PATH.", f"{remedy}.")
        if host.is_clone:
            yield _go(host)
        return
    found = host.ask([path, "version"])
    if found is None:
        yield Check("pulumi", "fail", f"{path} does not report its version.", f"{remedy}.")
        return
    observed = f"Pulumi {found} at {path}"
    if not host.find("pulumi-language-python"):
        missing = "without pulumi-language-python, which runs Python programs."
        yield Check("pulumi", "fail", f"{observed}, {missing}", f"{remedy}.")
        return
    package = _package("pulumi")
    if numbers(found)[:2] != numbers(package)[:2]:
        yield Check(
            "pulumi",
            "warn",
            f"{observed}; the Python package is {package}.",
            "Install the same minor version of both.",
        )
        return
    yield Check("pulumi", "ok", f"{observed}.")


def _package(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def numbers(text: str) -> tuple[int, ...]:
    """The numbers of a version: (3, 259, 0) of v3.259.0."""
    found = re.search(r"\d+(?:\.\d+)*", text)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _go(host: Host) -> Check:
    """`make setup` builds Pulumi with Go."""
    path = host.find("go")
    need = ".".join(map(str, MIN_GO))
    remedy = f"Install Go {need} (https://go.dev/dl), or Pulumi. {INSTALL_PULUMI}."
    if path is None:
        return Check("go", "fail", "neither Pulumi nor Go, which could build it, is here.", remedy)
    found = host.ask([path, "env", "GOVERSION"]) or "Go of an unknown version"
    if numbers(found)[:2] >= MIN_GO:
        return Check("go", "ok", f"{found} at {path} can build Pulumi.")
    return Check("go", "warn", f"{found} at {path}; Pulumi needs Go {need}.", remedy)


def login(host: Host) -> Iterator[Check]:
    """Where Pulumi keeps the state, and as whom."""
    known = host.json(host.pulumi_home / "credentials.json")
    token = host.env.get("PULUMI_ACCESS_TOKEN", "")
    url = host.env.get("PULUMI_BACKEND_URL") or known.get("current") or (CLOUD if token else "")
    url = str(url)
    if not url:
        remedy = f"{SETUP}, which keeps the state in .ape/state; or: pulumi login"
        yield Check("login", "fail", "Pulumi has no backend for the state.", f"{remedy}.")
        return
    if not url.startswith(("http:", "https:")):
        yield _own_backend(host, url)
        return
    account = (known.get("accounts") or {}).get(url)
    user = (account if isinstance(account, dict) else {}).get("username")
    if user or token:
        whose = f"as {user}" if user else "with PULUMI_ACCESS_TOKEN"
        yield Check("login", "ok", f"Pulumi keeps the state at {bare(url)}, {whose}.")
    else:
        yield Check(
            "login",
            "fail",
            f"Pulumi keeps the state at {bare(url)}, where nobody is logged in.",
            f"Run: pulumi login {bare(url)}",
        )


def bare(url: str) -> str:
    """The URL without user, password and query."""
    parts = urlsplit(url)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="").geturl()


def _own_backend(host: Host, url: str) -> Check:
    """A folder or a bucket; its secrets are encrypted with a passphrase."""
    observed = f"Pulumi keeps the state at {bare(url)}"
    if url.startswith("file://"):
        folder = Path(url.removeprefix("file://")).expanduser()
        if not folder.is_dir():
            return Check("login", "fail", f"{observed}, which is not a folder.", f"{SETUP}.")
    file = host.env.get("PULUMI_CONFIG_PASSPHRASE_FILE")
    if "PULUMI_CONFIG_PASSPHRASE" in host.env or (file and Path(file).is_file()):
        return Check("login", "ok", f"{observed}; the passphrase of its secrets is set.")
    return Check(
        "login",
        "warn",
        f"{observed}; the passphrase of its secrets is not set.",
        "Set PULUMI_CONFIG_PASSPHRASE or PULUMI_CONFIG_PASSPHRASE_FILE.",
    )


def plugin(host: Host) -> Iterator[Check]:
    """Pulumi's Docker plugin, or its stand-in, which is a script."""
    wanted = _package("pulumi-docker")
    folder = host.pulumi_home / "plugins" / f"resource-docker-v{wanted}"
    file = folder / "pulumi-resource-docker"
    try:
        with file.open("rb") as opened:
            stand_in = opened.read(2) == b"#!"
    except OSError:
        remedy: Any = (
            "`make setup` installs it, or its stand-in"
            if host.is_clone
            else (f"Run: pulumi plugin install resource docker {wanted}")
        )
        yield Check("plugin", "warn", f"pulumi-docker {wanted} is not installed.", f"{remedy}.")
        return
    kind = "the stand-in of offline/provider for " if stand_in else ""
    yield Check("plugin", "ok", f"{kind}pulumi-docker {wanted}.")
