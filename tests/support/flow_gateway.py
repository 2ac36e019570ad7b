"""The real gateway before a target of a test, with the operations that it knows."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from ape_contracts import operations
from ape_contracts.gateway_config import load
from ape_contracts.operations import Operation, Operations
from ape_contracts.operations_file import pack
from ape_gateway.app import make_app
from ape_gateway.operations import load as load_operations

API = "shop"


def app_of(target: str, known: Sequence[Operation], allowed: Sequence[str] = ()) -> Any:
    """`allowed`: templates of the target's paths, or none for all."""
    route: dict[str, Any] = {"name": "Shop", "description": "", "base_url": target}
    if allowed:
        route["endpoints"] = [{"path": each, "methods": ["GET", "POST", "PUT"]} for each in allowed]
    text = pack(operations.encode(Operations(operations=tuple(known))))
    return make_app(
        load(json.dumps({"routes": {API: route}, "logging": {"level": "WARNING"}})),
        declared=1,
        operations=load_operations(API, text),
    )
