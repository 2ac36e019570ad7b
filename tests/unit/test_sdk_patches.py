"""The changes to the Pulumi SDK: each is needed, and all are off with an unchecked version."""

import json
import subprocess
import sys
from importlib.metadata import version

import pytest
from pulumi import automation as auto
from pulumi import log
from pulumi.runtime import resource as registration

from ape_infra import sdk_patches

pytestmark = pytest.mark.unit


@pytest.fixture
def warnings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the patches warn of; the SDK is restored afterwards."""
    monkeypatch.setattr(log, "debug", log.debug)
    monkeypatch.setattr(registration, "_get_stack_trace", registration._get_stack_trace)
    monkeypatch.setattr("gc.disable", lambda: None)
    monkeypatch.setattr("atexit.register", lambda work: None)
    return []


@pytest.fixture
def other_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sdk_patches, "version", lambda name: "3.260.0")


def test_the_checked_version_is_the_installed_one() -> None:
    assert version("pulumi") == sdk_patches.CHECKED_VERSION


def test_a_debug_message_does_not_reach_the_engine(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[object] = []
    monkeypatch.setattr("pulumi.log._log", lambda *arguments: sent.append(arguments))
    monkeypatch.setattr("pulumi.log.get_engine", object)
    log.debug("before")
    assert len(sent) == 1, "without the patch it is sent"
    assert sdk_patches.apply(warnings.append)
    log.debug("after")
    assert len(sent) == 1
    assert not warnings


class _Base:
    """The SDK looks for the third `__init__` on the stack: the one of a concrete resource."""

    def __init__(self, levels: int = 2) -> None:
        if levels:
            _Base.__init__(self, levels - 1)
        else:
            self.trace = registration._get_stack_trace()


def test_a_registration_carries_no_stack_trace(warnings: list[str]) -> None:
    assert _Base().trace.frames, "without the patch it has frames"
    assert sdk_patches.apply(warnings.append)
    assert not _Base().trace.frames
    assert "_get_stack_trace" in registration.register_resource.__code__.co_names


def test_the_command_does_not_ask_pulumi_for_its_version(
    warnings: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[list[str]] = []

    def check_output(command: list[str], **_: object) -> bytes:
        asked.append(command)
        return b"v3.259.0\n"

    monkeypatch.setattr("pulumi.automation._cmd.subprocess.check_output", check_output)
    patched, plain = sdk_patches.pulumi_command(warnings.append), auto.PulumiCommand()
    assert asked == [["pulumi", "version"]], "only the SDK's own command asks"
    assert vars(patched) == vars(plain)
    assert not warnings


def test_with_another_version_every_patch_is_off_and_a_warning_names_both(
    warnings: list[str], other_version: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log.debug, registration._get_stack_trace
    assert not sdk_patches.apply(warnings.append)
    assert (log.debug, registration._get_stack_trace) == before
    monkeypatch.setattr(
        "pulumi.automation._cmd.subprocess.check_output", lambda *_, **__: b"v3.260.0\n"
    )
    assert str(sdk_patches.pulumi_command(warnings.append).version) == "3.260.0"
    assert len(warnings) == 2
    for text in warnings:
        assert "3.260.0" in text
        assert sdk_patches.CHECKED_VERSION in text


def test_a_program_runs_without_garbage_collection() -> None:
    code = (
        "import gc, json; from ape_infra import sdk_patches; sdk_patches.apply(print); "
        "print(json.dumps(gc.isenabled()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) is False
