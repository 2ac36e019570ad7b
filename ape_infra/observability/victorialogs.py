"""VictoriaLogs: its options. It has no config file; retention and disk are limited."""

from __future__ import annotations

PORT = 9428
# The published image has this folder for its user; a volume anywhere else would belong to root.
HOME = "/home/nonroot"
DATA_DIR = f"{HOME}/victoria-logs"
# The shipper's lines arrive by Loki's protocol. They stay as they were written, in `_msg`: parsed,
# they would lose the types of their values, and `ape-load logs` could not show what was logged.
PUSH_PATH = "/insert/loki/api/v1/push?disable_message_parsing=1"
QUERY_PATH = "/select/logsql/query"


def options(*, retention_days: int, retention_size: str) -> tuple[str, ...]:
    """Return the command line. `retention_size`: such as 4GB; the oldest days are deleted first."""
    return (
        f"-httpListenAddr=:{PORT}",
        f"-storageDataPath={DATA_DIR}",
        f"-retentionPeriod={retention_days}d",
        f"-retention.maxDiskSpaceUsageBytes={retention_size}",
        "-loggerFormat=json",
        "-loggerLevel=WARN",
    )
