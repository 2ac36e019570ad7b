"""Loki's configuration: one process and disk; retention, streams and memory are limited."""

from __future__ import annotations

from typing import Any

PORT = 3100
DATA_DIR = "/loki"
PUSH_PATH = "/loki/api/v1/push"
# One stream per service, not per agent; ids are structured metadata.
MAX_STREAMS = 500


def config(*, retention_days: int) -> dict[str, Any]:
    """Return the configuration."""
    return {
        "auth_enabled": False,
        "analytics": {"reporting_enabled": False},
        "server": {
            "http_listen_port": PORT,
            "grpc_listen_address": "127.0.0.1",
            "log_level": "warn",
        },
        "common": {
            "path_prefix": DATA_DIR,
            "replication_factor": 1,
            "instance_addr": "127.0.0.1",
            "ring": {"kvstore": {"store": "inmemory"}},
            "storage": {
                "filesystem": {
                    "chunks_directory": f"{DATA_DIR}/chunks",
                    "rules_directory": f"{DATA_DIR}/rules",
                }
            },
        },
        # A single process transfers no streams: it is ready at once, and ends at once.
        "ingester": {"lifecycler": {"min_ready_duration": "0s", "final_sleep": "0s"}},
        "schema_config": {
            "configs": [
                {
                    "from": "2024-01-01",
                    "store": "tsdb",
                    "object_store": "filesystem",
                    "schema": "v13",
                    "index": {"prefix": "index_", "period": "24h"},
                }
            ]
        },
        "compactor": {
            "working_directory": f"{DATA_DIR}/compactor",
            "retention_enabled": True,
            "delete_request_store": "filesystem",
        },
        "limits_config": {
            "retention_period": f"{retention_days * 24}h",
            "allow_structured_metadata": True,
            "discover_log_levels": False,
            "max_global_streams_per_user": MAX_STREAMS,
            "ingestion_rate_mb": 16,
            "ingestion_burst_size_mb": 32,
            "max_query_series": MAX_STREAMS,
        },
        "pattern_ingester": {"enabled": False},
        "query_range": {
            "results_cache": {
                "cache": {"embedded_cache": {"enabled": True, "max_size_mb": 32}},
            }
        },
    }
