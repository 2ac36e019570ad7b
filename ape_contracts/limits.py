"""Limits of the services' containers, and the connections of the socket proxy."""

from __future__ import annotations

from typing import NamedTuple


class Limits(NamedTuple):
    """Limits of a service's one container: memory in MiB without swap, CPU in cores."""

    memory_mb: int
    cpus: float


# Those of the agents follow from the fleet.
LIMITS = {
    "gateway": Limits(1024, 2.0),
    "proxy": Limits(1024, 2.0),
    "demo_target": Limits(256, 1.0),
    # With 1000 containers: 60 MB, and a page of the kernel for each of its open files.
    "monitor": Limits(192, 0.5),
    "socket_proxy": Limits(64, 0.25),
}

# Connections of the socket proxy. The log streams of a shipper have places of their own, so that
# the monitor always finds one.
LOG_STREAMS, OTHER_CONNECTIONS = 64, 64
# For each log stream: its state, a piece, and the kernel's buffers when the shipper stalls.
LOG_STREAM_KB = 48


def socket_proxy_memory_mb(log_streams: int) -> int:
    """MiB of the socket proxy with this many log streams; its limit has those of LOG_STREAMS."""
    more = max(0, log_streams - LOG_STREAMS) * LOG_STREAM_KB
    return LIMITS["socket_proxy"].memory_mb + -(-more // 1024)
