"""`ape-load init`: the files of a new project, as the program reads them."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from ape_contracts.providers import PROVIDERS
from ape_infra.cli import app
from ape_infra.cli.common import EXIT_OK, EXIT_PRECONDITION_FAILED
from ape_infra.cli.new_project import NAME, valid_name
from ape_infra.config import document, project
from ape_infra.config.files import DEMO_DIR, Scenario, gateway_config
from ape_infra.config.parsing import parse
from ape_infra.config.provider import resolve
from ape_infra.config.secrets import SECRETS
from ape_infra.config.settings import Settings

pytestmark = pytest.mark.unit
OPENAPI = {
    "openapi": "3.1.0",
    "paths": {
        "/lamps": {"post": {"summary": "Add a lamp."}, "get": {"summary": "All lamps."}},
        "/lamps/{id}": {"get": {"summary": "One lamp."}},
    },
}


def init(*arguments: str, code: int = EXIT_OK, typed: str | None = None) -> str:
    """What the command reports. Asks on a terminal where something is `typed`."""
    runner = CliRunner()
    done = runner.invoke(app, ["init", *arguments], input=typed)
    assert done.exit_code == code, done.output
    return done.output


def settings_of(folder: Path, stack: str) -> Settings:
    """The settings as Pulumi hands them over."""
    config = yaml.safe_load((folder / f"Pulumi.{stack}.yaml").read_text())["config"]
    found: dict[str, str] = {}
    for key, value in config.items():
        namespace, _, setting = key.partition(":")
        assert namespace == project.find(folder).name
        found[setting] = value if isinstance(value, str) else json.dumps(value)
    return parse(found, SECRETS)


def scenario_of(folder: Path, stack: str = "dev") -> Scenario:
    settings = settings_of(folder, stack)
    _, api = gateway_config(settings, folder)
    return Scenario.of(settings, folder, api)


def test_without_flags_the_demo_shop_is_tested_with_the_offline_model(tmp_path: Path) -> None:
    folder = tmp_path / "My Shop"
    assert "cd " in init(str(folder))
    assert project.find(folder) == project.Project("my-shop", folder)
    dev, prod = settings_of(folder, "dev"), settings_of(folder, "prod")
    assert dev.target.is_demo
    assert dev.model.kind == "offline"
    assert (prod.platform.production, prod.model.kind) == (True, "provider")
    assert resolve(prod.model).provider == "cerebras"
    assert resolve(prod.model).most_tokens == 10_000_000
    assert not set(dev.published_ports.values()) & set(prod.published_ports.values())
    for stack in ("dev", "prod"):
        expected = json.loads((DEMO_DIR / "scenario.json").read_text())
        assert scenario_of(folder, stack) == Scenario.model_validate(expected)
    assert {f.name for f in folder.iterdir()} == {
        *("Pulumi.yaml", "Pulumi.dev.yaml", "Pulumi.prod.yaml", "__main__.py"),
        *("gateway.json", "README.md", ".gitignore"),
    }


def test_pulumi_runs_the_program_in_the_environment_of_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.prefix", "/opt/some env")
    init(str(tmp_path / "one"))
    written = yaml.safe_load((tmp_path / "one/Pulumi.yaml").read_text())
    assert written["runtime"] == {"name": "python", "options": {"virtualenv": "/opt/some env"}}
    monkeypatch.setattr("sys.prefix", sys.base_prefix)
    init(str(tmp_path / "two"))
    assert yaml.safe_load((tmp_path / "two/Pulumi.yaml").read_text())["runtime"] == "python"


def test_a_target_of_ones_own_gets_a_route_and_a_scenario_to_edit(tmp_path: Path) -> None:
    init(str(tmp_path), "--target", "https://shop.example", "--name", "lamps")
    settings = settings_of(tmp_path, "dev")
    text, api = gateway_config(settings, tmp_path)
    assert json.loads(text)["routes"][api]["base_url"] == "https://shop.example"
    scenario = scenario_of(tmp_path)
    assert [(e.method, e.path) for e in scenario.endpoints] == [("GET", "/")]
    assert scenario.success.status == 200


def test_an_openapi_file_is_copied_and_names_the_endpoints(tmp_path: Path) -> None:
    file = tmp_path / "api.json"
    file.write_text(json.dumps(OPENAPI))
    folder = tmp_path / "lamps"
    init(str(folder), "--target", "https://shop.example", "--openapi", str(file))
    file.unlink()
    scenario = scenario_of(folder)
    read = document.read(settings_of(folder, "dev"), folder)
    assert len(read.operations.operations) == 3
    assert (scenario.success.method, scenario.success.path) == ("GET", "/lamps")
    assert "`api.json`" in (folder / "README.md").read_text()


@pytest.mark.parametrize("model", ["offline", "recorded"])
def test_the_model_is_that_of_the_flag(model: str, tmp_path: Path) -> None:
    init(str(tmp_path / model), "--model", model)
    assert settings_of(tmp_path / model, "dev").model.kind == model


@pytest.mark.parametrize("provider", PROVIDERS)
def test_both_stacks_have_the_provider_of_the_flag(provider: str, tmp_path: Path) -> None:
    options = ["--model", provider, "--model-name", "some/model"]
    if not PROVIDERS[provider].base_url:
        said = init(str(tmp_path / "no"), *options, code=EXIT_PRECONDITION_FAILED)
        assert "Add --model-url URL." in said
        options += ["--model-url", "http://host.docker.internal:8000/v1"]
    init(str(tmp_path / "a"), *options)
    for stack in ("dev", "prod"):
        model = settings_of(tmp_path / "a", stack).model
        assert (model.kind, model.provider, model.name) == ("provider", provider, "some/model")
    for file in ("README.md", "Pulumi.prod.yaml"):
        text = (tmp_path / "a" / file).read_text()
        assert ("modelApiKey" in text) == PROVIDERS[provider].needs_key, file


def test_a_provider_without_a_default_model_needs_a_name(tmp_path: Path) -> None:
    said = init(str(tmp_path / "a"), "--model", "ollama", code=EXIT_PRECONDITION_FAILED)
    assert "--model ollama: this provider has no default. Add --model-name NAME." in said
    said = init(str(tmp_path / "a"), "--model-name", "x", code=EXIT_PRECONDITION_FAILED)
    assert "belong to a provider" in said


def test_on_a_terminal_it_asks_for_what_the_provider_has_no_default_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ape_infra.cli.init.on_terminal", lambda: True)
    asked = init(str(tmp_path / "a"), typed="demo\nvllm\n\nsome/model\n")
    assert "Base URL of the model" in asked
    model = settings_of(tmp_path / "a", "dev").model
    assert (model.base_url, model.name) == ("http://host.docker.internal:8000/v1", "some/model")


def test_on_a_terminal_it_asks_for_what_no_flag_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ape_infra.cli.init.on_terminal", lambda: True)
    asked = init(str(tmp_path / "a"), typed="https://shop.example\nnone\nrecorded\n")
    for question in (
        "URL of the target",
        "OpenAPI file",
        "Model (offline, recorded, cerebras, openai",
    ):
        assert question in asked
    settings = settings_of(tmp_path / "a", "dev")
    assert (settings.target.url, settings.model.kind) == ("https://shop.example", "recorded")
    init(str(tmp_path / "b"), typed="\n\n")
    assert settings_of(tmp_path / "b", "dev").target.is_demo
    assert "URL of the target" not in init(str(tmp_path / "c"), "--yes")


def test_a_folder_that_is_not_empty_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    said = init(str(tmp_path), code=EXIT_PRECONDITION_FAILED)
    assert f"{tmp_path}: is not empty. Name a new folder, or add --force" in said
    assert [f.name for f in tmp_path.iterdir()] == ["notes.txt"]
    init(str(tmp_path), "--force", "--name", "shop")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert (tmp_path / "Pulumi.yaml").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--target", "shop.example"], "target"),
        (["--target", "http://localhost:8000"], "write host.docker.internal in its place"),
        (["--openapi", "api.json"], "Add --target URL"),
        (["--target", "https://shop.example", "--openapi", "missing.json"], "missing.json"),
        (["--name", "My Shop"], "--name My Shop: is not a valid name"),
    ],
)
def test_a_wrong_answer_is_an_error_and_nothing_is_written(
    arguments: list[str], sentence: str, tmp_path: Path
) -> None:
    folder = tmp_path / "shop"
    said = init(str(folder), *arguments, code=EXIT_PRECONDITION_FAILED)
    assert sentence in said
    assert not folder.exists()


def test_a_file_in_place_of_the_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "shop").write_text("")
    assert "is a file" in init(str(tmp_path / "shop"), code=EXIT_PRECONDITION_FAILED)


@pytest.mark.parametrize(
    ("folder", "name"),
    [("shop", "shop"), ("My Shop!", "my-shop"), ("..", "load-test"), ("ä" * 3, "load-test")],
)
def test_a_name_is_made_of_the_name_of_the_folder(folder: str, name: str) -> None:
    assert valid_name(folder) == name
    assert NAME.fullmatch(name)
