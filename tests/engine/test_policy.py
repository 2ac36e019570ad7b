"""The policy pack in the real engine, over a program that breaks every rule."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from ape_policy import CONTAINER, RULES

pytestmark = pytest.mark.engine
ROOT = Path(__file__).resolve().parents[2]
SECRET = "csk-not-a-real-key-0123456789"
PROGRAM = f"""
import pulumi_docker as docker

docker.Container(
    "bad",
    name="ape-policy-bad",
    image="alpine",
    envs=["CEREBRAS_API_KEY={SECRET}"],
    pid_mode="host",
    devices=[docker.ContainerDeviceArgs(host_path="/dev/null")],
    security_opts=["seccomp=unconfined"],
    sysctls={{"net.ipv4.ip_forward": "1"}},
    ports=[docker.ContainerPortArgs(internal=80, external=18099)],
    volumes=[
        docker.ContainerVolumeArgs(host_path="/var/run/docker.sock", container_path="/docker.sock"),
        docker.ContainerVolumeArgs(host_path="/etc", container_path="/host/etc"),
    ],
)
docker.Volume("bad-volume", name="ape-policy-bad", driver_opts={{"device": "/", "o": "bind"}})
late = docker.RemoteImage("late", name="alpine:3.20", keep_locally=True)
docker.Container(
    "open",
    name="ape-policy-open",
    image=late.repo_digest,
    user="10001:10001",
    read_only=True,
    memory=16,
    cpus="0.1",
    capabilities=docker.ContainerCapabilitiesArgs(drops=["ALL"]),
    security_opts=["no-new-privileges:true"],
)
"""


def test_the_engine_refuses_what_breaks_the_rules(tmp_path: Path) -> None:
    project, state = tmp_path / "project", tmp_path / "state"
    project.mkdir()
    state.mkdir()
    (project / "Pulumi.yaml").write_text("name: bad\nruntime: python\n")
    (project / "__main__.py").write_text(PROGRAM)
    env = {
        **os.environ,
        "PULUMI_BACKEND_URL": f"file://{state}",
        "PULUMI_CONFIG_PASSPHRASE": "of a test",
    }

    def pulumi(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["pulumi", *arguments, "--non-interactive"],
            cwd=project,
            env=env,
            capture_output=True,
            text=True,
        )

    assert pulumi("stack", "init", "s").returncode == 0
    pack = ["--policy-pack", str(ROOT / "policy/__main__.py"), "--color", "never"]
    done = pulumi("up", "--yes", *pack)
    said = done.stdout + done.stderr
    assert done.returncode != 0
    for rule in RULES:
        bad = "Container: bad" if CONTAINER in rule.types else "Volume: bad-volume"
        assert f"[mandatory]  {rule.name}  (docker:index:{bad})" in said
    # What is not known yet is said to be open, and stops nothing by itself.
    assert "can't run policy 'pinned-image'" in said
    assert ": open)" not in said.replace(
        "[advisory]  pinned-image  (docker:index:Container: open)", ""
    )
    assert SECRET not in said
    resources = json.loads(pulumi("stack", "export").stdout)["deployment"].get("resources", [])
    assert not [r for r in resources if r["type"].startswith("docker:")]

    # A stack's exceptions are Pulumi's own policy config.
    done = pulumi("preview", *pack, "--policy-pack-config", str(ROOT / "policy/dev.json"))
    assert "[advisory]  pinned-image  (docker:index:Container: bad)" in done.stdout
    assert "[mandatory]  limits  (docker:index:Container: bad)" in done.stdout
