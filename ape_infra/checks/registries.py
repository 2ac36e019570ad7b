"""Checks of the registries from which images are pulled."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import requests

from ape_infra.checks.check import Check
from ape_infra.config.settings import Settings

DOCKER_HUB, DOCKER_HUB_API = "docker.io", "registry-1.docker.io"
ANSWER_SECONDS = 4.0
Ask = Callable[[str], str]


def registry_of(image: str) -> str:
    """The host of an image's registry: docker.io of prom/prometheus:v2.42.0."""
    first, slash, _ = image.partition("/")
    has_host = slash and ("." in first or ":" in first or first == "localhost")
    return first if has_host else DOCKER_HUB


def needed(settings: Settings) -> list[str]:
    """The registries of the stack's images."""
    given = settings.images.given or {}
    images = [settings.images.base, *settings.part_images.values(), *given.values()]
    return list(dict.fromkeys(registry_of(image) for image in images))


def ask(registry: str) -> str:
    """The reason why a registry does not answer; empty where it does."""
    host = DOCKER_HUB_API if registry == DOCKER_HUB else registry
    scheme = "http" if host.partition(":")[0] in ("localhost", "127.0.0.1") else "https"
    try:
        status = requests.get(f"{scheme}://{host}/v2/", timeout=ANSWER_SECONDS).status_code
    except requests.Timeout:
        return f"no answer within {ANSWER_SECONDS:g} s"
    except requests.RequestException:
        return "no connection"
    # 401: it answers, and asks for a login.
    return "" if status in (200, 401) else f"status {status}"


def reached(registries: Iterable[str], ask: Ask = ask, *, clone: bool = True) -> Iterator[Check]:
    """Each registry should answer this machine. The daemon may have another proxy."""
    names = list(registries)
    with ThreadPoolExecutor(max_workers=8) as pool:
        reasons = dict(zip(names, pool.map(ask, names), strict=True))
    stand_in = ", or make stand-ins: offline/images.sh full" if clone else ""
    for name, reason in reasons.items():
        if reason:
            yield Check(
                "registry",
                "warn",
                f"{name} is not reached from this machine ({reason}).",
                f"Set HTTPS_PROXY for the daemon where it needs one, load the images "
                f"(`docker load`){stand_in}.",
            )
        else:
            yield Check("registry", "ok", f"{name} answers.")
