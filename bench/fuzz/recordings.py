"""Recordings that `ape-load import` reads, and what becomes of them."""

from __future__ import annotations

from typing import Any

from ape_infra.config import imports, openapi
from ape_infra.config.imports.model import Notes

HAR: dict[str, Any] = {
    "log": {
        "entries": [
            {
                "request": {
                    "method": "POST",
                    "url": "https://shop.example/a/1?b=c",
                    "headers": [{"name": "Cookie", "value": "a=b"}],
                    "postData": {"mimeType": "application/json", "text": '{"password": "p"}'},
                },
                "response": {"status": 200, "content": {"mimeType": "text/html", "text": "{}"}},
                "_resourceType": "xhr",
            }
        ]
    }
}
POSTMAN: dict[str, Any] = {
    "info": {"name": "n"},
    "variable": [{"key": "base", "value": "https://shop.example"}],
    "item": [
        {
            "name": "a",
            "request": {
                "method": "POST",
                "url": {"raw": "{{base}}/a/:id", "variable": [{"key": "id", "value": "1"}]},
                "auth": {"type": "basic", "basic": [{"key": "password", "value": "p"}]},
                "body": {"mode": "raw", "raw": '{"a": {{b}}}'},
            },
            "response": [{"code": 200}],
        }
    ],
}
CURL = b"""A=b; T=$(curl -s "https://shop.example/a" -d @f)
curl https://shop.example/$A -H 'X: y' -F a=@b -u c:d --next -G -d "q=${A}" $'\\x41' > f
"""


def read(raw: bytes) -> None:
    notes = Notes()
    found = imports.convert([imports.read(raw, "f", notes)], notes)
    openapi.read(found.document_text.encode("utf-8", "replace"))
