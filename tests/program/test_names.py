"""Names of secrets, configs and volumes reveal nothing of a secret's content."""

import hashlib
import hmac
from pathlib import Path
from typing import Any

import pulumi
import pytest

from ape_infra.config.agent_token import agent_token
from ape_infra.config.name_key import NameKey, passphrase
from ape_infra.config.secrets import CEREBRAS_API_KEY, GRAFANA_PASSWORD
from tests.support.program_mocks import KEY, run

pytestmark = pytest.mark.program
WORDS = ["123456", "letmein", "password"]
FULL = {"observability": "full", GRAFANA_PASSWORD: "letmein"}


@pytest.fixture(autouse=True)
def passphrase_of_the_stack(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "only the owner knows it")


def names(**config: Any) -> dict[str, str]:
    """Resource -> name on the engine, of what carries content."""
    found = run("dev", **config).resources
    kinds = ("Secret", "ServiceConfig", "Volume")
    return {r.name: r.inputs["name"] for r in found if r.type.rpartition(":")[2] in kinds}


def guesses(name: str) -> set[str]:
    """Digests of a word list, by what an attacker knows: names, and the source of this project."""
    found = set()
    derived = agent_token("", "", "ape", "dev").encode()
    scope = b"ape-names/ape/dev"
    for word in WORDS:
        for content in (word, f"{name}\0{word}\0"):
            for key in (b"", b"ape", b"dev", derived, hmac.digest(derived, scope, "sha256")):
                found.add(hmac.new(key, content.encode(), "sha256").hexdigest()[:12])
            found.add(hashlib.sha256(content.encode()).hexdigest()[:12])
    return found


def test_a_password_of_a_word_list_is_not_found_from_the_name_of_a_swarm_secret() -> None:
    found = names(runtime="swarm", **FULL)
    assert found["grafana-grafana_password"].rpartition("-")[2] not in guesses("grafana_password")


@pytest.mark.parametrize("runtime", ["docker", "swarm"])
def test_names_of_secrets_depend_on_the_passphrase_and_others_do_not(
    runtime: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = names(runtime=runtime, **FULL)
    assert names(runtime=runtime, **FULL) == first, "a second preview shows no change"
    assert names(runtime=runtime, agents=20, **FULL) == first, "nor does scaling change a name"
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "another")
    other = names(runtime=runtime, **FULL)
    changed = {name for name in first if first[name] != other[name]}
    if runtime == "docker":
        assert changed == {f"{x}-files" for x in ("gateway", "proxy", "grafana", "agents-00")}
    else:
        assert changed == {
            "gateway-gateway.json",
            "gateway-report_key",
            "proxy-proxy_token",
            "grafana-grafana_password",
            "agents-00-proxy_token",
            "agents-00-report_token",
        }


def test_the_token_or_the_models_key_is_the_key_where_the_stack_has_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    owned = {CEREBRAS_API_KEY: KEY}
    first = names(**owned)
    assert first != names(**{CEREBRAS_API_KEY: KEY + "2"})
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    assert names(**owned) == first, "with another way to encrypt the state, too"


def test_a_stack_whose_names_or_reports_can_be_guessed_is_warned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    warned: list[str] = []
    monkeypatch.setattr(pulumi.log, "warn", lambda text, *_: warned.append(text))
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE_FILE", raising=False)
    monkeypatch.setenv("PULUMI_CONFIG_PASSPHRASE", "of a test")
    run("dev", **FULL)
    assert warned == []
    monkeypatch.delenv("PULUMI_CONFIG_PASSPHRASE")
    run("dev")
    assert [text.split(":")[0] for text in warned] == ["reports"], "without secrets, no names"
    warned.clear()
    run("dev", **FULL)
    assert [text.split(":")[0] for text in warned] == ["ape", "reports"]
    warned.clear()
    run("dev", agentToken="of-a-test-0123456789", **FULL)
    assert [text.split(":")[0] for text in warned] == ["reports"], "agents have their token"
    warned.clear()
    run("dev", **FULL, **{CEREBRAS_API_KEY: KEY})
    assert warned == []


def test_the_passphrase_is_read_as_pulumi_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.write_text(" of a file\n")
    by_file = {"PULUMI_CONFIG_PASSPHRASE_FILE": str(file)}
    assert passphrase(by_file) == "of a file"
    assert passphrase(by_file | {"PULUMI_CONFIG_PASSPHRASE": ""}) == ""
    assert passphrase({"PULUMI_CONFIG_PASSPHRASE_FILE": str(tmp_path / "none")}) == ""
    assert passphrase({}) == ""
    key = NameKey.of("", "words", "ape", "dev")
    assert key != NameKey.of("", "words", "ape", "prod")
    assert "value" not in repr(key)
