"""What a complete answer of the model is: a message, a rejection, or neither."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any, NamedTuple

from ape_contracts.metrics import FINISH_REASONS
from ape_proxy.errors import NO_RETRY, ProxyError, Rejected, bad_answer
from ape_proxy.models import Answer
from ape_proxy.offline import text_of
from ape_proxy.resets import wait_of
from ape_service.completion_stream import status_of

MAX_WORDS = 200
# Statuses after which a provider did nothing, and may be asked again; 520 to 530: Cloudflare's.
RETRIED = (408, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529, 530)
# OpenAI's code of a 429 that does not end by itself.
_UNPAID = "insufficient_quota"
# Of an answer that is not JSON.
_READ_BYTES = 4096
_TAGS = re.compile(r"<(script|style)\b.*?(?:</\1\s*>|\Z)|<[^>]*>", re.DOTALL | re.IGNORECASE)


class Words(NamedTuple):
    """The upstream's error code, which may be empty, and its words."""

    code: str
    text: str


def loaded(content: bytes) -> Any:
    """The answer's JSON; None if it is not JSON."""
    try:
        # With a byte order mark as well.
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def choice_of(answer: object) -> dict[str, Any] | None:
    """The first choice; None if the answer has no message, or reports an error."""
    if not isinstance(answer, dict) or answer.get("error"):
        return None
    choices = answer.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    if not isinstance(first, dict) or first.get("error"):
        return None
    return first if isinstance(first.get("message"), dict) else None


def is_usable(message: dict[str, Any]) -> bool:
    """Whether the model said anything but its reasoning."""
    return bool(
        message.get("tool_calls")
        or message.get("function_call")
        or message.get("refusal")
        or text_of(message.get("content"))
    )


def finish_label(reason: object) -> str:
    """The label of a finish reason."""
    return reason if isinstance(reason, str) and reason in FINISH_REASONS else "other"


def rejection(answer: Answer, content: bytes) -> ProxyError:
    """The error of an answer with another status than 200."""
    code, words = words_of(content)
    if answer.status < 400:
        return bad_answer(f"status {answer.status}, {words}", transient=False)
    is_object = isinstance(loaded(content), dict)
    again = answer.headers.get(NO_RETRY, "").lower() != "false" and code != _UNPAID
    return Rejected(
        answer.status,
        code,
        words,
        body=content if is_object else b"",
        headers=answer.headers,
        wait=wait_of(answer.headers),
        transient=again and answer.status in RETRIED,
    )


def rejected_in_stream(
    answer: Answer, error: dict[str, Any], secrets: tuple[str, ...]
) -> ProxyError:
    """The error of a stream of which nothing was passed on."""
    content = without(secrets, json.dumps(error).encode())
    return rejection(replace(answer, status=status_of(error)), content)


def without(secrets: tuple[str, ...], content: bytes) -> bytes:
    """The answer without secrets that the provider repeats."""
    for secret in secrets:
        content = content.replace(secret.encode(), b"***")
    return content


def words_of(content: bytes) -> Words:
    """The words of an answer that is not a message: those of its error, or its text."""
    found = loaded(content)
    if isinstance(found, dict):
        return words_in(found)
    text = content[:_READ_BYTES].decode("utf-8", "replace")
    return Words("", _short(_TAGS.sub(" ", text)) or "an empty answer")


def words_in(found: dict[str, Any]) -> Words:
    """The words of an error object, of a choice with an error, or else the object itself."""
    error = found.get("error") or _error_of_choice(found)
    if isinstance(error, str):
        return Words(_code(found), _short(error))
    holder = error if isinstance(error, dict) else found
    text = next((holder[k] for k in ("message", "detail") if holder.get(k)), holder)
    return Words(_code(holder), _short(text if isinstance(text, str) else json.dumps(text)))


def _error_of_choice(found: dict[str, Any]) -> Any:
    choices = found.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    return first.get("error") if isinstance(first, dict) else None


def _code(holder: dict[str, Any]) -> str:
    """A code, or at least a type."""
    values = (holder.get(name) for name in ("code", "type"))
    return next((_short(str(v))[:64] for v in values if isinstance(v, str | int) and v), "")


def _short(text: str) -> str:
    """The first words on one line, without control characters."""
    plain = "".join(c if c.isprintable() else " " for c in text[: 20 * MAX_WORDS])
    return " ".join(plain.split())[:MAX_WORDS]
