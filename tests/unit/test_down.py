"""What `ape-load down` takes from the state."""

import pytest

from ape_infra.cli.down import built_images

pytestmark = pytest.mark.unit
IMAGE = "docker:index/image:Image"


def test_images_that_the_stack_built_are_found_and_nothing_else() -> None:
    resources = [
        {"type": "pulumi:pulumi:Stack"},
        {"type": IMAGE, "outputs": {"imageName": "ape-agent:1"}},
        {"type": IMAGE},
        {"type": "docker:index/container:Container", "outputs": {"image": "ape-proxy:1"}},
    ]
    assert built_images({"deployment": {"resources": resources}}) == ["ape-agent:1"]


@pytest.mark.parametrize("state", [{}, {"deployment": None}, {"deployment": {}}])
def test_an_empty_state_names_no_images(state: dict[str, object]) -> None:
    assert built_images(state) == []
