"""The memory that a large OpenAPI document takes, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.e2e
MAX_MB = 200
OPERATIONS, SCHEMAS = 1000, 500
# Of this size are the largest that applications publish.
MIN_BYTES = 13_000_000
READ = """
import sys
from pathlib import Path
from ape_contracts.operations import encode
from ape_infra.config import openapi

file = Path(sys.argv[1])
found = openapi.read(file.read_bytes(), file.name)
encode(found.operations)
status = Path("/proc/self/status").read_text()
peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
print(len(found.operations.operations), int(peak.split()[1]) // 1024)
"""


def schema(number: int) -> dict[str, Any]:
    names = [f"field_{number}_{n}" for n in range(20)]
    fields: dict[str, Any] = {
        name: {"type": "string", "description": f"What {name} is for. " * 3, "example": name}
        for name in names
    }
    if number % 3:
        fields["next"] = {"$ref": f"#/components/schemas/S{number - 1}"}
    return {"type": "object", "required": names[:3], "properties": fields}


def operation(number: int) -> dict[str, Any]:
    reference = {"$ref": f"#/components/schemas/S{number % SCHEMAS}"}
    # Most of a large document are examples of answers.
    example = [
        {"id": number * 1000 + n, "name": f"Thing {n} of {number}", "tags": ["a", "b"], "own": {}}
        for n in range(150)
    ]
    return {
        "operationId": f"create{number}",
        "summary": f"Create thing {number}",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
            {"name": f"filter{number}", "in": "query", "schema": {"type": "integer"}},
        ],
        "requestBody": {"content": {"application/json": {"schema": reference}}},
        "responses": {"200": {"content": {"application/json": {"example": example}}}},
    }


def document() -> dict[str, Any]:
    return {
        "openapi": "3.1.0",
        "info": {"title": "Large", "version": "1"},
        "paths": {f"/things{n}/{{id}}": {"post": operation(n)} for n in range(OPERATIONS)},
        "components": {"schemas": {f"S{n}": schema(n) for n in range(SCHEMAS)}},
    }


def test_document_of_13_mb_is_read_within_200_mb(tmp_path: Path) -> None:
    file = tmp_path / "large.json"
    file.write_text(json.dumps(document()))
    assert file.stat().st_size > MIN_BYTES
    done = subprocess.run(
        [sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=True
    )
    count, peak = map(int, done.stdout.split())
    assert count == OPERATIONS
    assert peak < MAX_MB
