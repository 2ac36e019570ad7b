"""What the images of the services are made of."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ape_docker_provider.image import context_files
from ape_infra.planning.services import (
    BUILT_SERVICES,
    DOCKERFILES,
    dockerignore,
    package_folder,
    sources,
)

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("service", BUILT_SERVICES)
def test_build_context_of_a_service_holds_its_own_sources_only(
    service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    dockerfile = DOCKERFILES / f"{service}.Dockerfile"
    sent = {
        name
        for name in context_files(".", dockerfile.as_posix())
        if Path(name).is_file() and name != dockerfile.as_posix()
    }
    allowed = (*sources(service), Path("services/wheels") / service)
    for source in sources(service):
        assert any(Path(name).is_relative_to(source) for name in sent), source
    assert [name for name in sent if not any(Path(name).is_relative_to(s) for s in allowed)] == []
    assert not [name for name in sent if name.endswith(".pyc")]


@pytest.mark.parametrize("service", BUILT_SERVICES)
def test_files_of_a_service_image_are_as_generated(service: str) -> None:
    dockerfile = ROOT / DOCKERFILES / f"{service}.Dockerfile"
    assert os.readlink(dockerfile) == "Dockerfile"
    assert Path(f"{dockerfile}.dockerignore").read_text() == dockerignore(service)
    assert (ROOT / package_folder(service) / "__main__.py").is_file()
