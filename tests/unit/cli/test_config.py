"""`ape-load config`: what it lists, and what it refuses to write."""

import json
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from typer.testing import CliRunner, Result

from ape_infra.automation import edit_config, stack_file
from ape_infra.automation.engine import PulumiEngine
from ape_infra.automation.trial import ConfigTrial, trial_config
from ape_infra.cli import app
from ape_infra.cli import config as command
from ape_infra.config.listing import listed
from ape_infra.config.parsing import parse_config
from ape_infra.config.project import Project, ProjectError
from ape_infra.config.settings import Settings

pytestmark = pytest.mark.unit
STACK = """# kept
config:
  ape:agents: "7"
  ape:targetInclude: [/a]
  ape:modelApiKey:
    secure: v1:abc
  ape:targetGoal:
    secure: v1:ghi
  ape:tiers:
    - secure: v1:def
"""


class Store:
    """A stack whose config is a YAML file, which Pulumi would write."""

    name = "dev"

    def __init__(self, root: Path) -> None:
        self.root, self.config_file = root, root / "Pulumi.dev.yaml"
        self.project = SimpleNamespace(root=root)

    def settings(self, file: Path | None = None) -> Settings:
        found = yaml.safe_load((file or self.config_file).read_text() or "{}") or {}
        given = found.get("config", {})
        return parse_config({key.partition(":")[2]: value for key, value in given.items()})

    def set_config(self, values: Mapping[str, str | None], file: Path | None = None) -> None:
        where = file or self.config_file
        found = (yaml.safe_load(where.read_text() or "{}") or {}).get("config", {})
        for key, value in values.items():
            found[f"ape:{key}"] = value
        kept = {key: value for key, value in found.items() if value is not None}
        where.write_text(yaml.safe_dump({"config": kept}))

    def trial(self, values: Mapping[str, str | None]) -> AbstractContextManager[ConfigTrial]:
        return trial_config(self, values)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(command, "current", lambda: Project("ape", tmp_path))
    found = Store(tmp_path)
    found.config_file.write_text('config:\n  ape:agents: "7"\n')
    monkeypatch.setattr(command, "open_engine", lambda stack: found)
    return found


def call(*arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(app, ["config", *arguments], input=stdin)


def test_list_has_value_default_and_source_and_no_secret(tmp_path: Path) -> None:
    (tmp_path / "Pulumi.dev.yaml").write_text(STACK + "  ape:agnts: 1\n")
    (tmp_path / "Pulumi.yaml").write_text(
        "name: ape\nconfig:\n  agents: {type: integer, default: 9}\n"
        "  rampSeconds: {type: integer, default: 3}\n  ape:persona: shopper\n"
    )
    found = {
        item.key: (item.value, item.default, item.source)
        for item in listed(stack_file.read(tmp_path, "dev"), stack_file.of_project(tmp_path))
    }
    assert found["agents"] == ("7", "5", "stack config")
    assert found["rampSeconds"] == ("3", "10", "Pulumi.yaml")
    assert found["persona"] == ("shopper", "", "Pulumi.yaml")
    assert found["targetInclude"] == ('["/a"]', "[]", "stack config")
    assert found["sessionMaxSteps"] == ("20", "20", "default")
    assert found["modelApiKey"] == ("[secret]", "", "stack config")
    assert found["targetGoal"] == ("[secret]", "", "stack config")
    assert found["grafanaPassword"] == ("", "", "not set")
    assert found["tiers"][0] == '["[secret]"]'
    assert found["agnts"] == ("1", "", "stack config")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('config:\n  ape:agents: "5\n', "is not valid YAML, line"),
        ("- a\n", "is not a mapping"),
        ("config: [1]\n", "`config` is not a mapping"),
    ],
)
def test_stack_config_that_cannot_be_read_is_named(tmp_path: Path, text: str, reason: str) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    file.write_text(text)
    with pytest.raises(ProjectError, match=reason) as error:
        stack_file.read(tmp_path, "dev")
    assert str(file) in str(error.value)
    assert stack_file.read(tmp_path, "other") == {}


def test_list_states_broken_rules_and_shows_what_is_changed(store: Store) -> None:
    store.config_file.write_text('config:\n  ape:agents: "7"\n  ape:agnts: "7"\n')
    found = json.loads(call("--changed", "--json").stdout)
    assert [item["key"] for item in found["settings"]] == ["agents", "agnts"]
    assert "Did you mean agents?" in found["problems"][0]
    text = call("--changed").stdout
    assert "agents" in text
    assert "Not valid: ape:agnts" in text


def test_get_prints_the_value_alone(store: Store) -> None:
    assert call("get", "ape:agents").stdout == "7\n"
    assert call("get", "rampSeconds").stdout == "10\n"


def test_set_and_unset_write_what_is_valid(store: Store) -> None:
    found = call("set", "agents", "9")
    assert (found.exit_code, "agents: 7 -> 9" in found.stdout) == (0, True)
    assert store.settings().fleet.agents == 9
    found = call("unset", "agents")
    assert "agents: 9 -> 5" in found.stdout
    assert store.settings().fleet.agents == 5


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("set", "agnts", "9"), "Did you mean agents?"),
        (("set", "agents", "2001"), "less than or equal to 2000"),
        (("set", "agents"), "the value is missing"),
        (("set", "targetInclude", "a,b"), "a list or an object is JSON"),
        (("set", "targetInclude", '["a"]'), "targetOpenapi is not"),
        (("set", "modelApiKey", "swordfish"), "shell's history"),
        (("set", "modelApiKey"), "the value is empty"),
        (("unset", "tier"), "Did you mean tiers?"),
        (("set", "tiers[0].memoryMb", "96"), "Set it whole: ape-load config set tiers '[]'"),
    ],
)
def test_refused_change_writes_nothing(
    store: Store, arguments: tuple[str, ...], reason: str
) -> None:
    store.config_file.write_text("config: {'ape:agents': '7', 'ape:tiers': '[]'}\n")
    before = store.config_file.read_bytes()
    found = call(*arguments, stdin="")
    assert found.exit_code == 2
    assert reason in found.stderr
    assert store.config_file.read_bytes() == before
    assert [file.name for file in store.root.iterdir()] == ["Pulumi.dev.yaml"]


def test_secret_is_read_from_stdin_and_shown_nowhere(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = []

    def encrypt(engine: PulumiEngine, key: str, value: str, file: Path) -> None:
        written.append((key, value))
        store.set_config({key: "x"}, file)

    monkeypatch.setattr(edit_config, "_encrypt", encrypt)
    found = call("set", "modelApiKey", stdin="swordfish\n")
    assert found.exit_code == 0
    assert written == [("modelApiKey", "swordfish")]
    assert "swordfish" not in found.output


def test_secret_that_an_edit_meanwhile_would_lose_is_an_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def encrypt(engine: PulumiEngine, key: str, value: str, file: Path) -> None:
        store.config_file.write_text("config: {}\n")

    monkeypatch.setattr(edit_config, "_encrypt", encrypt)
    found = call("set", "modelApiKey", stdin="swordfish\n")
    assert found.exit_code == 2
    assert "was edited meanwhile" in found.stderr
