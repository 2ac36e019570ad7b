"""The engine as a component of another Pulumi program."""

import re
from pathlib import Path
from typing import Any

import pulumi
import pytest

from ape_infra.config.errors import SettingsError
from ape_infra.config.secrets import AGENT_TOKEN, CEREBRAS_API_KEY
from ape_infra.config.settings import Settings
from ape_infra.program.engine import TOKEN, EngineArgs, check
from tests.support.program_mocks import KEY, ROOT, Recorder, declared, run

pytestmark = pytest.mark.program
PAGE = ROOT / "docs/how-to/use-from-another-program.md"


def other_program(folder: Path, text: str) -> Recorder:
    """What a program with `text` declares, in a project of its own."""
    (folder / "Pulumi.yaml").write_text("name: ape\nruntime: python\nconfig: {}\n")
    (folder / "__main__.py").write_text(text)
    return declared(folder, "dev", {})


def example() -> str:
    found = re.search(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert found
    return found[1]


def by_name(recorder: Recorder) -> dict[tuple[str, str], dict[str, Any]]:
    return {(r.type, r.name): r.inputs for r in recorder.resources}


def test_the_documented_program_declares_the_resources_of_the_projects_own_stack(
    tmp_path: Path,
) -> None:
    found = by_name(other_program(tmp_path, example()))
    assert found.pop((TOKEN, "load-test")) is not None
    own = by_name(run("dev", agents=5, thinkTimeSeconds=2))
    assert found.keys() == own.keys()
    # The images' sources are elsewhere, seen from there.
    builds = [found.pop(key) for key in list(found) if key[0].endswith(":Image")]
    assert {b["build"]["context"] for b in builds} == {
        str(Path(*[".."] * len(tmp_path.resolve().parts[1:])) / str(ROOT).lstrip("/"))
    }
    assert found.items() <= own.items()


def test_a_program_without_the_engine_has_no_component_around_its_resources() -> None:
    assert TOKEN not in {r.type for r in run("dev").resources}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (EngineArgs(secrets={"apiKey": "x"}), "ape:apiKey: is not a secret of the engine"),
        (EngineArgs(secrets={AGENT_TOKEN: "x" * 16}), f"ape:{AGENT_TOKEN}: is not a secret"),
        (EngineArgs(secrets={CEREBRAS_API_KEY: KEY}), f"ape:{AGENT_TOKEN}: is required"),
        (
            EngineArgs(Settings.model_validate({"model": {"model": "cerebras"}})),
            f"ape:{CEREBRAS_API_KEY}: is not set",
        ),
    ],
)
def test_an_argument_that_breaks_a_rule_is_named(args: EngineArgs, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        check(args)


async def test_a_key_with_a_token_is_accepted() -> None:
    key = pulumi.Output.secret(KEY)
    check(EngineArgs(secrets={CEREBRAS_API_KEY: key}, agent_token="t" * 16))
    assert await key.future() == KEY
