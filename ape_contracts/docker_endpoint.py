"""The Docker daemon that the `docker` command would use: one answer for all clients.

The order is that of Docker's CLI: DOCKER_HOST, DOCKER_CONTEXT, the current context in its config
file, the local socket. Only the standard library is imported: the plugin starts with it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCAL_SOCKET = "/var/run/docker.sock"
LOCAL_HOST = f"unix://{LOCAL_SOCKET}"
DEFAULT_CONTEXT = "default"
# Folders of sockets on this host that lead into a virtual machine: Docker Desktop, Colima, Lima,
# Rancher Desktop, OrbStack. The daemon's own socket is at the usual path in that machine.
MACHINE_FOLDERS = ("/.docker/", "/.colima/", "/.config/colima/", "/.lima/", "/.rd/", "/.orbstack/")
CERTIFICATES = ("cert.pem", "key.pem", "ca.pem")


class EndpointError(Exception):
    """The daemon's address cannot be read; the text has the remedy."""


@dataclass(frozen=True)
class Endpoint:
    """The address of a daemon. `host` is empty for the local socket, which needs no address.

    `context`: its Docker context, empty if a variable or the default decides. `certificates`: the
    folder of the context's TLS files, empty without. `verify`: whether the daemon's certificate is
    checked.
    """

    host: str = ""
    context: str = ""
    certificates: str = ""
    verify: bool = True

    @property
    def address(self) -> str:
        return self.host or LOCAL_HOST

    @property
    def shown(self) -> str:
        """The address for a message, with its context."""
        return f"{self.address} (Docker context {self.context})" if self.context else self.address


def resolve(host: str = "", env: Mapping[str, str] | None = None) -> Endpoint:
    """Return the endpoint at `host`, or else the one that Docker's CLI would use with `env`.

    Raises EndpointError where a context is named that does not exist or cannot be read.
    """
    env = os.environ if env is None else env
    folder = Path(env.get("DOCKER_CONFIG") or _home(env) / ".docker")
    chosen = env.get("DOCKER_CONTEXT", "")
    if named := host or env.get("DOCKER_HOST", ""):
        if chosen not in ("", DEFAULT_CONTEXT) and _read(folder, chosen).address != named:
            raise EndpointError(
                f"DOCKER_CONTEXT={chosen} and {'the setting' if host else 'DOCKER_HOST'} {named}"
                " name two daemons; the published plugin would use the context. Unset one of them."
            )
        return Endpoint(named)
    context = chosen or _current(folder / "config.json")
    return _read(folder, context) if context not in ("", DEFAULT_CONTEXT) else Endpoint()


def _read(folder: Path, context: str) -> Endpoint:
    """Return the endpoint of a context in the CLI's config folder. Raises EndpointError."""
    identity = hashlib.sha256(context.encode()).hexdigest()
    meta = folder / "contexts/meta" / identity / "meta.json"
    try:
        docker = json.loads(meta.read_text("utf-8"))["Endpoints"]["docker"]
        address, skipped = str(docker["Host"]), bool(docker.get("SkipTLSVerify"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise EndpointError(
            f"Docker context {context} cannot be read from {meta} ({type(error).__name__}). List"
            " the contexts with `docker context ls`, and choose one with `docker context use NAME`."
        ) from None
    tls = folder / "contexts/tls" / identity / "docker"
    certificates = str(tls) if all((tls / name).is_file() for name in CERTIFICATES) else ""
    return Endpoint("" if address == LOCAL_HOST else address, context, certificates, not skipped)


def client_options(endpoint: Endpoint, env: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return the arguments of docker-py's clients for an endpoint.

    Without a context, DOCKER_CERT_PATH applies, and DOCKER_TLS_VERIFY, as for the docker command.
    """
    made: dict[str, Any] = {"base_url": endpoint.address}
    env = os.environ if env is None else env
    folder = endpoint.certificates
    if not folder and not endpoint.context:
        usual = str(_home(env) / ".docker") if env.get("DOCKER_TLS_VERIFY") else ""
        folder = env.get("DOCKER_CERT_PATH") or usual
    if folder and endpoint.host.startswith(("tcp://", "https://")):
        from docker.tls import TLSConfig

        cert, key, ca = (os.path.join(folder, name) for name in CERTIFICATES)
        made["tls"] = TLSConfig(client_cert=(cert, key), ca_cert=ca, verify=endpoint.verify)
    # The user's own ssh, with its config and keys.
    if endpoint.host.startswith("ssh://"):
        made["use_ssh_client"] = True
    return made


def daemon_socket(endpoint: Endpoint, platform: str = sys.platform) -> str:
    """Return the path of the daemon's socket on the daemon's own host, for a mount.

    A rootless daemon has it in the user's folder. That of another host, or of a virtual machine,
    is expected at the usual path: the path on this host does not exist there.
    """
    path = endpoint.host.removeprefix("unix://")
    if path == endpoint.host or platform == "darwin":
        return LOCAL_SOCKET
    return LOCAL_SOCKET if any(folder in path for folder in MACHINE_FOLDERS) else path


def _home(env: Mapping[str, str]) -> Path:
    return Path(env["HOME"]) if env.get("HOME") else Path.home()


def _current(config: Path) -> str:
    """Return the current context of Docker's config file; empty without one."""
    try:
        found = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError):
        return ""
    return str(found.get("currentContext") or "") if isinstance(found, dict) else ""
