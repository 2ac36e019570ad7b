"""Rules of a hardened workload, over the plain inputs of a container or a Swarm service.

A rule is a pure function of inputs under Pulumi's names (`readOnly`, `taskSpec`). Its enforcement
level (mandatory, advisory, disabled) comes from Pulumi's policy config. No message contains a value
of the environment.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ape_contracts.report_token import is_token
from ape_contracts.service_settings import REPORT_TOKEN
from ape_policy import isolation
from ape_policy.workload import CONTAINER, SERVICE, SOCKET_PROXY, Rule, Workload, holds_socket

__all__ = ["CONTAINER", "RULES", "SERVICE", "Rule", "Workload"]


def _number(value: Any) -> float:
    try:
        return float(value or 0)
    except (TypeError, ValueError):
        return 0.0


# The published image's user, whose data directory belongs to the group of root.
GRAFANA = {("grafana", "472:0"), ("grafana-files", "472:0")}


def _is_root(name: str) -> bool:
    return name == "root" or (name != "" and name.strip("0") == "")


def _non_root_user(w: Workload) -> Iterator[str]:
    # Root owns the socket, and its group has another number on every host. The other rules leave
    # the socket proxy's root without capabilities.
    if w.socket_proxy:
        return
    user = str(w.get("user") or "")
    name, _, group = user.partition(":")
    remedy = "Set a user that is not root, such as 10001:10001."
    if not name:
        yield f"{w.path('user')}: is not set, so the image decides. {remedy}"
    elif _is_root(name):
        yield f"{w.path('user')}: is {user}. {remedy}"
    elif name.isdecimal() and not group:
        # A number that the image does not list gets the group of root.
        yield f"{w.path('user')}: is {user} without a group. {remedy}"
    elif _is_root(group) and (w.label("ape.service"), user) not in GRAFANA:
        yield f"{w.path('user')}: is {user}, with the group of root. {remedy}"
    if w.all("groups"):
        yield f"{w.path('groups')}: adds groups, such as that of the engine's socket. Remove it."


def _read_only_root(w: Workload) -> Iterator[str]:
    if w.get("read_only") is not True and not w.never_starts:
        yield f"{w.path('read_only')}: is not true. Set it, and mount a tmpfs for files."


def _limits(w: Workload) -> Iterator[str]:
    if w.never_starts:
        return
    for name, resource in (("memory", "memory"), ("cpus", "CPU")):
        if _number(w.get(name)) <= 0:
            yield f"{w.path(name)}: has no {resource} limit. Set one."
    # A service has no such field, and no swap beyond Docker's default: as much as its memory.
    if not w.service:
        swap, memory = _number(w.props.get("memorySwap")), _number(w.get("memory"))
        if swap < 0 or swap > 2 * memory > 0:
            yield "memorySwap: allows more swap than memory. Set it to the memory limit: no swap."


def _no_capabilities(w: Workload) -> Iterator[str]:
    if not w.service and w.props.get("privileged"):
        yield "privileged: is true, which keeps all capabilities. Remove it."
    if "ALL" not in (str(x).upper().removeprefix("CAP_") for x in w.all("drops")):
        yield f"{w.path('drops')}: does not drop ALL. Set it to [ALL]."
    if w.all("adds"):
        yield f"{w.path('adds')}: adds capabilities. Remove it."


def _no_new_privileges(w: Workload) -> Iterator[str]:
    # A service has no such field; daemon.json sets it for the node (docs/facts.md).
    if w.service:
        return
    given = {str(x).replace("=", ":") for x in w.props.get("securityOpts") or ()}
    right = {"no-new-privileges", "no-new-privileges:true"}
    # The last of several counts.
    wrong = {x for x in given - right if x.startswith("no-new-privileges")}
    if wrong or not given & right:
        yield "securityOpts: is not just no-new-privileges:true. Set that, and no other value."


ALL_ADDRESSES = ("", "0.0.0.0", "::", "[::]")


def _not_on_all_addresses(w: Workload) -> Iterator[str]:
    if w.service:
        if w.all("ports"):
            yield (
                f"{w.path('ports')}: Swarm publishes them on all addresses of every node. Remove "
                "them, or allow them for this stack in the policy config."
            )
        return
    if w.props.get("networkMode") == "host":
        yield "networkMode: is host, which publishes every listener. Use a network of the stack."
    if w.props.get("publishAllPorts") is True:
        yield "publishAllPorts: is true, on all addresses. Publish single ports with an address."
    for i, port in enumerate(w.all("ports")):
        if (port.get("ip") or "") in ALL_ADDRESSES:
            yield f"ports[{i}].ip: is published on all addresses. Set one, such as 127.0.0.1."


def _no_docker_socket(w: Workload) -> Iterator[str]:
    # The only exception is as narrow as the inputs allow.
    for path, source, read_only in w.host_mounts():
        if w.socket_proxy:
            if not source.endswith(".sock"):
                yield f"{path}: mounts {source}. The {SOCKET_PROXY} may mount only the socket."
            elif not read_only:
                yield f"{path}: mounts {source} writable. Mount it read-only."
        elif holds_socket(source):
            yield (
                f"{path}: mounts {source}; access to the engine's socket is root access to the "
                f"host, also read-only. Use the {SOCKET_PROXY} instead."
            )
    if w.socket_proxy and w.all("ports"):
        yield f"{w.path('ports')}: the {SOCKET_PROXY} must not publish ports. Remove them."


def _pinned_image(w: Workload) -> Iterator[str]:
    image = str(w.get("image") or "")
    if "@sha256:" in image or image.startswith("sha256:"):
        return
    tag = image.rpartition("/")[2].partition(":")[2]
    if tag in ("", "latest"):
        yield f'{w.path("image")}: is "{image}", which may change at any time. Add a version.'


_SECRET_NAME = re.compile(
    r"(?:^|_)(?:pass(?:word|wd|phrase)?|secret|token|api_?key|access_?key|private_?key"
    r"|credentials?)$",
    re.IGNORECASE,
)
_SECRET_VALUE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----"
    r"|\b(?:sk|csk|gh[opsu]|github_pat|glpat|xox[abprs])[-_][A-Za-z0-9_-]{16,}"
    r"|\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\."
    r"|://[^/\s:@]+:[^/\s@]+@"
)


def _no_secret_in_environment(w: Workload) -> Iterator[str]:
    for name, value in w.environment():
        # It signs the reports of one container, and gives no other right.
        if name == REPORT_TOKEN and is_token(value):
            continue
        if value and (_SECRET_NAME.search(name) or _SECRET_VALUE.search(value)):
            yield (
                f"{w.path('env')}: {name} looks like a secret, and `docker inspect` shows it. "
                "Pass it as a file (File(secret=True) in ape_infra/program/workload.py)."
            )


RULES = (
    Rule("non-root-user", "A workload runs as a user that is not root.", _non_root_user),
    Rule("read-only-root", "The root file system is read-only.", _read_only_root),
    Rule("limits", "A workload has a memory limit and a CPU limit.", _limits),
    Rule("no-capabilities", "All capabilities are dropped and none is added.", _no_capabilities),
    Rule("no-new-privileges", "A process gains no privileges by setuid.", _no_new_privileges),
    Rule(
        "not-on-all-addresses",
        "A port is published on a chosen address.",
        _not_on_all_addresses,
    ),
    Rule("no-docker-socket", "Only the socket proxy has access to the engine.", _no_docker_socket),
    Rule("pinned-image", "An image has a version or a digest.", _pinned_image),
    Rule(
        "no-secret-in-environment",
        "A secret is passed as a file, not in the environment.",
        _no_secret_in_environment,
    ),
    *isolation.RULES,
)
