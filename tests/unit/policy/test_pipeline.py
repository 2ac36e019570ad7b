"""What the pipeline does to a stack's config, and what the workflows hand to it."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from ape_infra.automation.pipeline import variables, with_stand_ins
from ape_infra.config.secrets import CEREBRAS_API_KEY, GRAFANA_PASSWORD, STAND_IN
from ape_policy import RULES

pytestmark = pytest.mark.unit
ROOT = Path(__file__).resolve().parents[3]
WORKFLOWS = sorted((ROOT / ".github").rglob("*.yml"))


def document(**config: Any) -> dict[str, Any]:
    return {"config": {f"ape:{key}": value for key, value in config.items()}}


def test_a_preview_gets_stand_ins_for_what_it_needs_and_no_more() -> None:
    assert with_stand_ins(document(agents=5)) == document(agents=5)
    assert with_stand_ins(document(agents=5, model="cerebras", production=True)) == document(
        agents=5,
        model="cerebras",
        production=True,
        **{CEREBRAS_API_KEY: STAND_IN, GRAFANA_PASSWORD: STAND_IN},
    )


def test_a_preview_gets_stand_ins_for_what_it_cannot_decrypt() -> None:
    encrypted = {"encryptionsalt": "v1:x", **document(cerebrasApiKey={"secure": "v1:y"})}
    assert with_stand_ins(encrypted) == document(cerebrasApiKey=STAND_IN)


def test_a_preview_leaves_what_is_wrong_to_the_program() -> None:
    assert with_stand_ins(document(agents=0)) == document(agents=0)


def test_the_workflow_hands_over_every_secret_of_the_settings() -> None:
    stack = yaml.safe_load((ROOT / ".github/workflows/stack.yml").read_text())
    env = stack["jobs"]["run"]["env"]
    for variable in variables().values():
        assert env.get(variable) == f"${{{{ secrets.{variable} }}}}", "add it to stack.yml"


def test_every_action_is_pinned_by_its_commit() -> None:
    uses = [u for f in WORKFLOWS for u in re.findall(r"uses: (\S+.*)", f.read_text())]
    foreign = [u for u in uses if not u.startswith("./")]
    assert foreign
    for use in foreign:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[0-9.]+", use), use


def test_no_workflow_may_write_but_the_one_that_comments() -> None:
    for file in WORKFLOWS:
        workflow = yaml.safe_load(file.read_text())
        if "jobs" not in workflow:
            continue
        assert workflow["permissions"] == {"contents": "read"}
        for name, job in workflow["jobs"].items():
            if "permissions" in job:
                assert (file.name, name) == ("ci.yml", "comment")
                assert not any("checkout" in step.get("uses", "") for step in job["steps"])


def test_the_runner_gets_the_pulumi_of_the_lock() -> None:
    action = yaml.safe_load((ROOT / ".github/actions/setup/action.yml").read_text())
    version = next(
        step["with"]["pulumi-version"]
        for step in action["runs"]["steps"]
        if step["uses"].startswith("pulumi/")
    )
    assert f"\npulumi=={version}\n" in (ROOT / "requirements.in").read_text()


def test_exceptions_name_rules_that_there_are() -> None:
    for file in (ROOT / "policy").glob("*.json"):
        assert set(json.loads(file.read_text())) <= {rule.name for rule in RULES}, file


@pytest.mark.parametrize(
    "arguments", [[], ["depoy"], ["deploy"], ["preview"], ["drift", "a", "b"], ["loadtest"]]
)
def test_a_wrong_call_is_refused(arguments: list[str]) -> None:
    done = subprocess.run(
        [ROOT / "scripts/pipeline.sh", *arguments], capture_output=True, text=True, cwd=ROOT
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Precondition failed; nothing was changed: ")
