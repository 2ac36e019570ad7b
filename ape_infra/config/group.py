"""The base of every group of settings."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    """Frozen, without coercion, and without unknown keys; keys are the fields in camelCase."""

    model_config = ConfigDict(
        strict=True, extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True
    )


class Group(Strict):
    """Settings with one owner. A field's alias is the flat key of the stack config."""
