"""What the images of the services are made of."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from ape_docker_provider.image import context_files

from ape_infra.components.images import CONTEXT, SERVICES

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = sorted(f.relative_to(ROOT) for f in (ROOT / SERVICES).glob("*/Dockerfile"))


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.parent.name)
def test_the_context_is_what_the_dockerfile_copies(
    dockerfile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    copied = re.findall(r"^COPY (?!--)(\S+) ", dockerfile.read_text(), re.MULTILINE)
    sent = {
        name
        for name in context_files(CONTEXT, dockerfile.as_posix())
        if Path(name).is_file() and name != dockerfile.as_posix()
    }
    for source in copied:
        assert any(Path(name).is_relative_to(source) for name in sent), source
    assert [name for name in sent if not any(Path(name).is_relative_to(s) for s in copied)] == []
    assert not [name for name in sent if name.endswith(".pyc")]
