"""Data as text, the same for the same data: a changed digest of it replaces what reads it."""

from __future__ import annotations

from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    """Writes everything out: Alertmanager's and Loki's readers know no anchors of ours."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def yaml_of(data: Any) -> str:
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=100, allow_unicode=True)
