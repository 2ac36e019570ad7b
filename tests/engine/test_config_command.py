"""`ape-load config set` with the real Pulumi, which needs no Docker daemon for it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ape_infra.config.project import SOURCE_ROOT

pytestmark = pytest.mark.engine
CONFIG = """# Of the team.
config:
  ape:agents: "5" # few
  ape:targetGoal: Buy a book.
"""


@pytest.mark.seconds(8)
def test_config_set_keeps_comments_and_encrypts_secrets(tmp_path: Path) -> None:
    project, state = tmp_path / "project", tmp_path / "state"
    project.mkdir()
    state.mkdir()
    (project / "Pulumi.yaml").write_text((SOURCE_ROOT / "Pulumi.yaml").read_text())
    file = project / "Pulumi.dev.yaml"
    file.write_text(CONFIG)
    env = {**os.environ, "PULUMI_BACKEND_URL": state.as_uri(), "PULUMI_CONFIG_PASSPHRASE": "x"}
    env.pop("PULUMI_CONFIG_PASSPHRASE_FILE", None)

    def config(*arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "ape_infra", "config", *arguments],
            input=stdin,
            cwd=project,
            env=env,
            capture_output=True,
            text=True,
        )

    assert config("set", "agents", "20").returncode == 0
    assert config("set", "cerebrasApiKey", stdin="swordfish\n").returncode == 0
    text = file.read_text()
    assert "# Of the team." in text
    assert "# few" in text
    assert 'ape:agents: "20"' in text
    assert "ape:targetGoal: Buy a book." in text
    assert "secure: v1:" in text
    assert "swordfish" not in text
    shown = subprocess.run(
        ["pulumi", "config", "get", "cerebrasApiKey", "--stack", "dev"],
        cwd=project,
        env=env,
        capture_output=True,
        text=True,
    )
    assert shown.stdout.strip() == "swordfish"
    refused = config("set", "agents", "0")
    assert refused.returncode == 2
    assert file.read_text() == text
