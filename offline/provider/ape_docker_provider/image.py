"""docker.Image: a local build with the classic builder. The Docker SDK: see daemon.py."""

from __future__ import annotations

import hashlib
import os
import platform
import stat
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ape_docker_provider.check import Failure
from ape_docker_provider.daemon import CancelledError, Daemon, DaemonError, part
from ape_docker_provider.values import Data, Unknown, has_unknown

Report = Callable[[str], None]
MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
LAST_LINES = 15


def host_platform() -> str:
    """Return the platform of this machine, the default."""
    return f"linux/{MACHINES.get(platform.machine(), platform.machine())}"


def check_image(inputs: Data) -> tuple[Data, list[Failure], list[str]]:
    """Return the inputs with defaults and the digest of the context; failures; advice.

    A changed file changes the digest. No request is sent to the daemon.
    """
    made = dict(inputs)
    made.setdefault("buildOnPreview", False)
    made.setdefault("skipPush", False)
    build = made.get("build") or {}
    if isinstance(build, Unknown):
        return made, [], []
    build = dict(build)
    made["build"] = build
    failures, advice = [], []
    if made["skipPush"] is False:
        rule = "set skipPush to true: the offline stand-in does not push; the published plugin does"
        failures.append(Failure("skipPush", rule))
    build.setdefault("context", ".")
    if not isinstance(build["context"], Unknown):
        build.setdefault("dockerfile", os.path.join(build["context"], "Dockerfile"))
    if not build.get("platform"):
        build["platform"] = host_platform()
        advice.append(f"building for {build['platform']}; set build.platform to silence this")
    if has_unknown(build.get("context")) or has_unknown(build.get("dockerfile", "")):
        return made, failures, advice
    failures += check_paths(build)
    if not failures:
        build["contextDigest"] = context_digest(build["context"], build["dockerfile"])
    return made, failures, advice


def check_paths(build: Data) -> list[Failure]:
    """Return a failure for a missing context or Dockerfile."""
    context, dockerfile = build["context"], build["dockerfile"]
    if not os.path.isdir(context):
        return [Failure("build.context", f'folder "{context}" does not exist')]
    if os.path.isfile(dockerfile):
        return []
    inside = os.path.join(context, dockerfile)
    hint = f'; try "{inside}"' if os.path.isfile(inside) else ""
    return [Failure("build.dockerfile", f'could not open "{dockerfile}"{hint}')]


def ignore_patterns(context: str, dockerfile: str) -> list[str]:
    """Return the patterns of DOCKERFILE.dockerignore, else of the context's .dockerignore."""
    for path in (Path(dockerfile + ".dockerignore"), Path(context) / ".dockerignore"):
        if path.is_file():
            lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
            return [line for line in lines if line and not line.startswith("#")]
    return []


def context_files(context: str, dockerfile: str) -> list[str]:
    """Return the files of the build, relative to the context, sorted."""
    from docker.utils.build import exclude_paths

    inside = os.path.relpath(dockerfile, context)
    wanted = None if inside.startswith("..") else inside
    return sorted(exclude_paths(context, ignore_patterns(context, dockerfile), dockerfile=wanted))


def context_digest(context: str, dockerfile: str) -> str:
    """Return a digest of names, modes and contents of the Dockerfile and of every file."""
    total = hashlib.sha256()
    total.update(hashlib.sha256(Path(dockerfile).read_bytes()).digest())
    for name in context_files(context, dockerfile):
        path = Path(context) / name
        info = path.lstat()
        if stat.S_ISDIR(info.st_mode):
            continue
        if stat.S_ISLNK(info.st_mode):
            content = os.readlink(path).encode()
        else:
            content = path.read_bytes() if stat.S_ISREG(info.st_mode) else b""
        total.update(f"{name}\0{info.st_mode:o}\0".encode() + hashlib.sha256(content).digest())
    return total.hexdigest()


def build(daemon: Daemon, inputs: Data, report: Report) -> Data:
    """Build and tag the image; return the outputs under the published plugin's names."""
    import docker.errors
    import requests
    from docker.utils.build import create_archive

    options = inputs["build"]
    context, dockerfile = options["context"], options["dockerfile"]
    inside = os.path.relpath(dockerfile, context)
    name, extra = inside, []
    if inside.startswith(".."):
        name = f".dockerfile.{hashlib.sha256(inside.encode()).hexdigest()[:20]}"
        extra = [(name, Path(dockerfile).read_text(encoding="utf-8"))]
    archive = create_archive(context, files=context_files(context, dockerfile), extra_files=extra)
    lines: deque[str] = deque(maxlen=LAST_LINES)
    try:
        stream = daemon.client.build(
            fileobj=archive,
            custom_context=True,
            dockerfile=name,
            tag=inputs["imageName"],
            rm=True,
            forcerm=True,
            decode=True,
            timeout=3600,
            buildargs=options.get("args") or {},
            target=options.get("target") or None,
            cache_from=(options.get("cacheFrom") or {}).get("images") or None,
            extra_hosts=hosts(options.get("addHosts") or []),
            network_mode=options.get("network") or None,
            platform=options.get("platform") or None,
        )
        for event in stream:
            follow(event, lines, report, inputs["imageName"])
            if daemon.cancelled.is_set():
                raise CancelledError
    except docker.errors.APIError as error:
        raise DaemonError(f"build of {inputs['imageName']}: {error.explanation}", 500) from error
    except (requests.RequestException, docker.errors.DockerException) as error:
        raise daemon.unreachable(error) from error
    finally:
        archive.close()
    found = daemon.call("GET", f"/images/{part(inputs['imageName'])}/json")
    return {
        "baseImageName": inputs["imageName"],
        "context": context,
        "dockerfile": inside,
        "imageName": inputs["imageName"],
        "platform": options["platform"],
        "registryServer": (inputs.get("registry") or {}).get("server") or "",
        "repoDigest": found["Id"],
    }


def follow(event: Data, lines: deque[str], report: Report, name: str) -> None:
    """Handle one event of a build. Raises DaemonError for an error."""
    if "error" in event:
        remedy = (
            "No registry answers. Load the base image first (docker load, docker import)."
            if "registry" in event["error"] or "pull access denied" in event["error"]
            else ""
        )
        tail = "".join(f"\n    {line}" for line in lines)
        raise DaemonError(f"build of {name}: {event['error']}{tail}", 500, remedy)
    for line in str(event.get("stream") or event.get("status") or "").splitlines():
        if line.strip():
            lines.append(line.strip())
            report(line.strip())


def hosts(entries: list[str]) -> dict[str, str] | None:
    """Convert `name:address` entries to the SDK's form."""
    pairs = [e.split(":", 1) for e in entries if ":" in e]
    return {p[0]: p[1] for p in pairs} or None


def read(daemon: Daemon, inputs: Data, state: Data) -> bool:
    """Whether the image still exists, by its id where that is known."""
    name = state.get("repoDigest") or state.get("imageName") or inputs.get("imageName") or ""
    return daemon.find(f"/images/{part(str(name))}/json") is not None


def ensure_image(daemon: Daemon, name: str, wanted_platform: str) -> Any:
    """Return the image, pulled where it is missing. Raises DaemonError."""
    import docker.errors
    import requests

    found = daemon.find(f"/images/{part(name)}/json")
    if found is not None:
        return found
    if name.startswith("sha256:"):
        raise DaemonError(f"No such image: {name}", 404, "Build it again: pulumi up --refresh.")
    try:
        last: Data = {}
        options = {"platform": wanted_platform} if wanted_platform else {}
        for event in daemon.client.pull(name, stream=True, decode=True, **options):
            last = event
        if "error" in last:
            raise DaemonError(last["error"], 500)
        return daemon.call("GET", f"/images/{part(name)}/json")
    except (docker.errors.APIError, DaemonError) as error:
        message = getattr(error, "explanation", None) or getattr(error, "message", str(error))
        raise DaemonError(
            f"No such image: {name}, and it cannot be pulled: {message}",
            404,
            "Build or load it first (docker load, docker import).",
        ) from error
    except requests.RequestException as error:
        raise daemon.unreachable(error) from error
