"""The docker provider under the real engine and a real daemon.

APE_DOCKER_PLUGIN=DIR runs the same tests against another plugin, such as the published one; tests
of the stand-in's own manners are then skipped.
"""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import docker
import pulumi
import pulumi_docker as pd
import pytest
from pulumi import automation as auto

from ape_infra.config.settings import Settings
from tests.support.nodes import Node, Nodes

pytestmark = [pytest.mark.engine, pytest.mark.xdist_group("provider")]

HERE = Path(__file__).resolve().parents[2]
STAND_IN = HERE / "offline" / "provider"
PLUGIN = Path(os.environ.get("APE_DOCKER_PLUGIN", STAND_IN))
OWN = pytest.mark.skipif(PLUGIN != STAND_IN, reason="a manner of the stand-in")
BASE, IMAGE = Settings().images.base, "ape-provider-test:1"
RUN = uuid.uuid4().hex[:6]


def name(kind: str) -> str:
    """A name of this test run."""
    return f"apept-{RUN}-{kind}"


def labels(stack: str = RUN) -> list[pd.ContainerLabelArgs]:
    """The ownership labels."""
    pairs = (("ape.project", "apept"), ("ape.stack", stack))
    return [pd.ContainerLabelArgs(label=k, value=v) for k, v in pairs]


@pytest.fixture(scope="module")
def api() -> Iterator[Any]:
    """The daemon, with an image that has a shell; what the tests left is removed."""
    client = docker.from_env().api
    assert client.tag(BASE, IMAGE.split(":")[0], IMAGE.split(":")[1])
    yield client
    for item in client.containers(all=True, filters={"name": f"apept-{RUN}"}):
        client.remove_container(item["Id"], force=True)
    client.remove_image(IMAGE)


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A Pulumi home and a state of our own, with the plugin installed."""
    base = tmp_path_factory.mktemp("pulumi")
    (base / "state").mkdir()
    made = {
        "PULUMI_HOME": str(base / "home"),
        "PULUMI_BACKEND_URL": f"file://{base / 'state'}",
        "PULUMI_CONFIG_PASSPHRASE": "test",
        "PULUMI_SKIP_UPDATE_CHECK": "1",
        "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "1",
        "APE_PYTHON": os.environ.get("APE_PYTHON", sys.executable),
    }
    words = ["plugin", "install", "resource", "docker", "5.2.0", "--file", str(PLUGIN)]
    subprocess.run(["pulumi", *words], check=True, env=os.environ | made)
    return made


@pytest.fixture
def stack(env: dict[str, str], tmp_path: Path) -> Iterator[Callable[..., auto.Stack]]:
    """Makes a stack; all are destroyed at the end."""
    made: list[auto.Stack] = []

    def make(program: Callable[[], None], **config: str) -> auto.Stack:
        options = auto.LocalWorkspaceOptions(work_dir=str(tmp_path), env_vars=env)
        found = auto.create_or_select_stack(f"s{len(made)}", "apept", program, opts=options)
        for key, value in config.items():
            found.set_config(f"docker:{key}", auto.ConfigValue(value))
        made.append(found)
        return found

    yield make
    for item in made:
        item.destroy(refresh=False)


def changes(result: Any) -> dict[str, int]:
    """Operation counts without `same`."""
    counts = getattr(result, "change_summary", None) or result.summary.resource_changes
    plain = {str(getattr(k, "value", k)): v for k, v in counts.items()}
    return {k: v for k, v in plain.items() if k != "same"}


def state_text(env: dict[str, str]) -> str:
    """The state files as they lie on the disk: `export_stack` would decrypt them."""
    base = Path(env["PULUMI_BACKEND_URL"].removeprefix("file://"))
    found = [p.read_text() for p in base.rglob("*.json")]
    assert found
    return "".join(found)


def box(kind: str, **more: Any) -> pd.Container:
    """A small hardened container."""
    options = more.pop("opts", None)
    settings: dict[str, Any] = {
        "name": name(kind),
        "image": IMAGE,
        "command": ["/bin/sleep", "1000"],
        "user": "1000",
        "read_only": True,
        "memory": 64,
        "memory_swap": 64,
        "cpus": "0.25",
        "init": True,
        "labels": labels(),
    }
    return pd.Container(kind, **(settings | more), opts=options)


def test_life_of_a_stack(api: Any, env: dict[str, str], stack: Callable[..., auto.Stack]) -> None:
    """Up, nothing to do, memory in place, cpus by replacement, healing, and gone."""
    size = {"memory": 64, "cpus": "0.25"}

    def program() -> None:
        net = pd.Network("net", name=name("net"))
        vol = pd.Volume("vol", name=name("vol"))
        made = box(
            "life",
            memory=size["memory"],
            memory_swap=size["memory"],
            cpus=size["cpus"],
            tmpfs={"/tmp": "size=1m"},
            capabilities=pd.ContainerCapabilitiesArgs(drops=["ALL"]),
            security_opts=["no-new-privileges:true"],
            envs=["A=1", pulumi.Output.secret("B=hush-hush")],
            log_driver="json-file",
            log_opts={"max-size": "1m", "max-file": "2"},
            networks_advanced=[pd.ContainerNetworksAdvancedArgs(name=net.name, aliases=["box"])],
            volumes=[pd.ContainerVolumeArgs(volume_name=vol.name, container_path="/data")],
            ulimits=[pd.ContainerUlimitArgs(name="nofile", soft=100, hard=200)],
            ports=[pd.ContainerPortArgs(internal=80, ip="127.0.0.1", protocol="tcp")],
            healthcheck=pd.ContainerHealthcheckArgs(
                tests=["CMD", "/bin/true"], interval="1s", timeout="2s", retries=3
            ),
            wait=True,
        )
        pulumi.export("id", made.id)

    item = stack(program)
    assert changes(item.preview()) == {"create": 4}
    assert changes(item.up()) == {"create": 4}
    assert changes(item.preview()) == {}
    assert changes(item.refresh()) == {}
    assert changes(item.preview()) == {}
    assert "hush-hush" not in state_text(env)
    first = item.outputs()["id"].value
    size["memory"] = 96
    assert changes(item.up()) == {"update": 1}
    assert item.outputs()["id"].value == first
    assert api.inspect_container(first)["HostConfig"]["Memory"] == 96 * 1024 * 1024
    size["cpus"] = "0.5"
    assert changes(item.preview()) == {"replace": 1}
    assert changes(item.up()) == {"replace": 1}
    api.remove_container(name("life"), force=True)
    assert changes(item.refresh()) == {"delete": 1}
    assert changes(item.up()) == {"create": 1}
    assert changes(item.preview()) == {}
    assert changes(item.destroy()) == {"delete": 4}
    assert api.networks(names=[name("net")]) == []


def test_failed_wait_reports_the_output_of_the_health_check(
    api: Any, stack: Callable[..., auto.Stack]
) -> None:
    """A container that is never healthy fails the up."""

    def program() -> None:
        check = pd.ContainerHealthcheckArgs(
            tests=["CMD-SHELL", "echo no-good; false"], interval="1s", timeout="1s", retries=1
        )
        box("sick", healthcheck=check, wait=True, wait_timeout=3)

    with pytest.raises(auto.CommandError) as failure:
        stack(program).up()
    assert "healthy state" in str(failure.value)
    if PLUGIN == STAND_IN:
        assert "no-good" in str(failure.value)
        assert api.containers(all=True, filters={"name": name("sick")}) == []


@OWN
def test_left_over_is_replaced_and_a_stranger_is_not(
    api: Any, stack: Callable[..., auto.Stack]
) -> None:
    """A leftover container is replaced; another owner's stays, and the error has a remedy."""
    ours = {x.label: x.value for x in labels()}
    for kind, tags in (("mine", ours), ("alien", {})):
        config = {"Image": IMAGE, "Cmd": ["/bin/sleep", "1000"], "Labels": tags}
        made = api.create_container_from_config(config, name(kind))
        api.start(made["Id"])
    assert changes(stack(lambda: box("mine") and None).up()) == {"create": 2}
    with pytest.raises(auto.CommandError, match="not made by this stack"):
        stack(lambda: box("alien") and None).up()
    assert len(api.containers(filters={"name": name("alien")})) == 1


@OWN
def test_preview_needs_no_daemon(stack: Callable[..., auto.Stack]) -> None:
    """Create and replace are previewed with a dead socket; up states the problem."""
    item = stack(lambda: box("nobody") and None, host="unix:///nowhere.sock")
    assert changes(item.preview()) == {"create": 2}
    with pytest.raises(auto.CommandError, match="Cannot connect to the Docker daemon"):
        item.up()


def test_unknown_property(stack: Callable[..., auto.Stack]) -> None:
    """A misspelled property is refused before anything is made."""

    class Raw(pulumi.CustomResource):
        """A container with properties of our choice."""

    def program() -> None:
        Raw("docker:index/container:Container", "raw", {"image": IMAGE, "memroy": 1})

    with pytest.raises(auto.CommandError, match="memroy"):
        stack(program).preview()


def test_import(api: Any, stack: Callable[..., auto.Stack]) -> None:
    """A network made outside comes in by its id."""
    made = api.create_network(name("import"), internal=True)["Id"]

    def program() -> None:
        options = pulumi.ResourceOptions(import_=made)
        pd.Network("net", name=name("import"), driver="bridge", internal=True, opts=options)

    item = stack(program)
    assert changes(item.up()) == {"create": 1, "import": 1}
    assert changes(item.preview()) == {}


def test_image(tmp_path: Path, api: Any, stack: Callable[..., auto.Stack]) -> None:
    """A build from a local base; only a changed file that is not ignored builds again."""
    context = tmp_path / "ctx"
    context.mkdir()
    (context / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY a.txt /a.txt\n")
    (context / ".dockerignore").write_text("*.log\n")
    (context / "a.txt").write_text("1")

    def program() -> None:
        build = pd.DockerBuildArgs(
            context=str(context),
            dockerfile=str(context / "Dockerfile"),
            platform="linux/amd64",
            builder_version=pd.BuilderVersion.BUILDER_V1,
            args={"BASE": IMAGE},
        )
        made = pd.Image("img", image_name=name("img") + ":1", build=build, skip_push=True)
        box("built", image=made.repo_digest)

    item = stack(program)
    assert changes(item.up()) == {"create": 3}
    assert changes(item.preview()) == {}
    (context / "x.log").write_text("ignored")
    assert changes(item.preview()) == {}
    (context / "a.txt").write_text("2")
    assert changes(item.up()) == {"update": 1, "replace": 1}
    (context / "Dockerfile").write_text(f"FROM {IMAGE}\nRUN echo told-you && false\n")
    with pytest.raises(auto.CommandError, match=r"told-you|returned a non-zero code"):
        item.up()


@pytest.fixture
def manager(api: Any) -> Iterator[Node]:
    """The only node of a Swarm; it has the image."""
    with Nodes(1) as made:
        made.load([IMAGE])
        yield made.nodes[0]


@pytest.mark.skipif(os.geteuid() != 0, reason="starts a dockerd")
def test_service(manager: Node, env: dict[str, str], stack: Callable[..., auto.Stack]) -> None:
    """A Swarm service with a secret and a config: up, nothing to do, scaled in place."""
    count = {"replicas": 1}

    def program() -> None:
        net = pd.Network("over", name=name("over"), driver="overlay")
        secret = pd.Secret("sec", name=name("sec"), data="aHVzaC1odXNo")
        config = pd.ServiceConfig("conf", name=name("conf"), data="e30=")
        spec = pd.ServiceTaskSpecContainerSpecArgs(
            image=IMAGE,
            commands=["/bin/sleep"],
            args=["1000"],
            env={"A": "1"},
            user="1000",
            read_only=True,
            cap_drops=["ALL"],
            init=True,
            stop_grace_period="1s",
            mounts=[
                pd.ServiceTaskSpecContainerSpecMountArgs(
                    target="/tmp",
                    type="tmpfs",
                    tmpfs_options=pd.ServiceTaskSpecContainerSpecMountTmpfsOptionsArgs(
                        size_bytes=1048576, mode=0o1777
                    ),
                )
            ],
            secrets=[
                pd.ServiceTaskSpecContainerSpecSecretArgs(
                    secret_id=secret.id, secret_name=secret.name, file_name="/run/secrets/s"
                )
            ],
            configs=[
                pd.ServiceTaskSpecContainerSpecConfigArgs(
                    config_id=config.id, config_name=config.name, file_name="/c.json"
                )
            ],
        )
        limits = pd.ServiceTaskSpecResourcesLimitsArgs(memory_bytes=64 << 20, nano_cpus=10**8)
        pd.Service(
            "svc",
            name=name("svc"),
            task_spec=pd.ServiceTaskSpecArgs(
                container_spec=spec,
                resources=pd.ServiceTaskSpecResourcesArgs(limits=limits),
                restart_policy=pd.ServiceTaskSpecRestartPolicyArgs(
                    condition="on-failure", delay="5s", max_attempts=3, window="30s"
                ),
                networks_advanceds=[
                    pd.ServiceTaskSpecNetworksAdvancedArgs(id=net.id, aliases=["svc"])
                ],
                log_driver=pd.ServiceTaskSpecLogDriverArgs(
                    name="json-file", options={"max-size": "1m"}
                ),
            ),
            mode=pd.ServiceModeArgs(
                replicated=pd.ServiceModeReplicatedArgs(replicas=count["replicas"])
            ),
            update_config=pd.ServiceUpdateConfigArgs(
                parallelism=10, delay="3s", monitor="15s", failure_action="rollback"
            ),
            converge_config=pd.ServiceConvergeConfigArgs(delay="1s", timeout="60s"),
        )

    item = stack(program, host=manager.host)
    assert changes(item.up()) == {"create": 5}
    assert changes(item.preview()) == {}
    assert changes(item.refresh()) == {}
    assert changes(item.preview()) == {}
    assert "aHVzaC1odXNo" not in state_text(env)
    count["replicas"] = 2
    assert changes(item.up()) == {"update": 1}
    assert changes(item.preview()) == {}
    item.destroy()
    assert manager.client().services.list(filters={"name": name("svc")}) == []
