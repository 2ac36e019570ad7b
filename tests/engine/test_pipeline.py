"""scripts/pipeline.sh against the real engine: what a pipeline of GitHub's runs."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.live import BASES, PROJECT, ROOT, LiveStack, project_folder

pytestmark = pytest.mark.engine
Make = Callable[..., LiveStack]
SECRET = "not-a-real-password-of-a-pipeline"


def pipeline(*arguments: str, cwd: Path, out: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """As on a runner: what the pipeline gives, and nothing of the tests' own state."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PULUMI_")}
    home = {"PULUMI_HOME": os.environ["PULUMI_HOME"]} if "PULUMI_HOME" in os.environ else {}
    return subprocess.run(
        [ROOT / "scripts/pipeline.sh", *arguments],
        cwd=cwd,
        env={**kept, **home, "PIPELINE_OUT": str(out), **env},
        capture_output=True,
        text=True,
    )


def test_previews_need_neither_state_nor_secret(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project_folder(project)
    for stack, values in BASES.items():
        config = {f"{PROJECT}:{key}": value for key, value in values.items()}
        (project / f"Pulumi.{stack}.yaml").write_text(json.dumps({"config": config}))
    before = {f: f.read_text() for f in project.glob("Pulumi*.yaml")}
    assert len(before) == 1 + len(BASES)
    done = pipeline("preview", "dev", "prod", cwd=project, out=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert {f: f.read_text() for f in project.glob("Pulumi*.yaml")} == before
    comment = (tmp_path / "preview.md").read_text()
    for stack in ("dev", "prod"):
        text = (tmp_path / f"preview-{stack}.txt").read_text()
        assert "✅ ape@" in text
        assert f"pulumi:pulumi:Stack ape-{stack} create" in text
        assert f"### Preview of `{stack}`" in comment
    assert len(comment) < 65536


def test_what_a_deployment_cannot_do_without(live: Make, tmp_path: Path) -> None:
    stack = live("t-ask")
    for arguments, env, part in (
        (["deploy", "t-ask"], {}, "PULUMI_BACKEND_URL is not set"),
        (["drift", "t-ask"], {"PULUMI_BACKEND_URL": "s3://b"}, "PULUMI_CONFIG_PASSPHRASE is not"),
        (["deploy", "t-aks"], stack.env, "there is no Pulumi.t-aks.yaml"),
        (
            ["drift", "t-ask"],
            {**stack.env, "PULUMI_BACKEND_URL": f"file://{tmp_path}"},
            "Deploy it first",
        ),
    ):
        done = pipeline(*arguments, cwd=stack.root, out=tmp_path, **env)
        assert (done.returncode, part in done.stderr) == (2, True), done.stderr


def test_deploy_drift_and_back(live: Make, tmp_path: Path) -> None:
    stack = live("t-pipe")
    stack.config(agents=1)
    file = stack.root / "Pulumi.t-pipe.yaml"
    config = file.read_text()

    def step(name: str, **env: str) -> subprocess.CompletedProcess[str]:
        done = pipeline(name, "t-pipe", cwd=stack.root, out=tmp_path, **stack.env, **env)
        assert SECRET not in done.stdout + done.stderr
        assert file.read_text() == config
        return done

    done = step("deploy", APE_GRAFANA_PASSWORD=SECRET)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "✅ ape@" in done.stdout
    assert len(stack.containers("agent")) == 1
    assert not [f for f in stack.state.rglob("*") if f.is_file() and SECRET in f.read_text()]
    assert step("drift").returncode == 0

    (agent,) = stack.containers("agent")
    stack.client.api.remove_container(agent["Id"], force=True)
    done = step("drift")
    assert done.returncode == 7, done.stdout + done.stderr
    assert "agent-0001" in done.stdout
    assert "Drift: stack t-pipe differs" in done.stderr

    assert step("deploy").returncode == 0
    assert step("drift").returncode == 0

    # One at a time: Pulumi's own lock, here of another run.
    lock = stack.state / ".pulumi/locks/organization/ape/t-pipe/of-another.json"
    held = {"pid": 1, "username": "u", "hostname": "h", "timestamp": "2026-01-01T00:00:00Z"}
    lock.write_text(json.dumps(held))
    done = step("deploy")
    assert done.returncode == 1
    assert "locked by 1 lock" in done.stdout + done.stderr
    lock.unlink()

    # A policy stops a deployment before it changes anything.
    running = stack.names("agent") + [c["Id"] for c in stack.containers("gateway")]
    stack.config(exposeAddress="0.0.0.0")
    config = file.read_text()
    done = step("deploy")
    assert done.returncode == 1
    assert "[mandatory]  not-on-all-addresses" in done.stdout
    assert stack.names("agent") + [c["Id"] for c in stack.containers("gateway")] == running

    stack.destroy()
    assert stack.leftovers() == []


def test_load_test_is_compared_with_the_last_one_that_passed(live: Make, tmp_path: Path) -> None:
    stack = live("t-load")
    stack.config(agents=2, duration="25s", thresholds=["session_success >= 0.9"])
    found = [pipeline("loadtest", "t-load", cwd=stack.root, out=tmp_path, **stack.env)]
    assert found[0].returncode == 0, found[0].stdout + found[0].stderr
    assert 'name="session_success &gt;= 0.9"' in (tmp_path / "junit.xml").read_text()
    assert "Compared with" not in (tmp_path / "loadtest.md").read_text()
    (first,) = (tmp_path / "results").iterdir()

    stack.config(thresholds=["session_success < 0.9"])
    found.append(pipeline("loadtest", "t-load", cwd=stack.root, out=tmp_path, **stack.env))
    assert found[1].returncode == 5, found[1].stdout + found[1].stderr
    assert "<failure" in (tmp_path / "junit.xml").read_text()
    text = (tmp_path / "loadtest.md").read_text()
    assert f"Compared with `{first.name}`" in text
    assert json.loads((tmp_path / "summary.json").read_text())["state"] == "failed"
    assert len(list((tmp_path / "results").iterdir())) == 2
    stack.destroy()
    assert stack.leftovers() == []
