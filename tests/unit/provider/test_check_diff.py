"""Check and diff of the stand-in docker provider: pure functions, no daemon."""

from __future__ import annotations

import functools
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pulumi.provider.experimental.property_value import PropertyValue

from ape_docker_provider.check import check
from ape_docker_provider.diff import diff
from ape_docker_provider.durations import cpus_text, go_duration, parse_duration, short_duration
from ape_docker_provider.schema import (
    CONTAINER,
    IMAGE,
    NETWORK,
    RESOURCES,
    SERVICE,
    VOLUME,
    Kind,
    Prop,
    Resource,
)
from ape_docker_provider.values import UNKNOWN, plain_map, wrap

pytestmark = pytest.mark.unit

BASE = {"name": "a", "image": "i"}
TASK = {"containerSpec": {"image": "i"}}


def checked(resource: Resource, data: dict[str, Any]) -> dict[str, Any]:
    """Return checked inputs; a rejection fails the test."""
    made, failures = check(resource, data, {}, "n", b"")
    assert failures == []
    return made


@pytest.mark.parametrize(
    ("resource", "data", "path", "message"),
    [
        (CONTAINER, {**BASE, "memroy": 1}, "memroy", 'did you mean "memory"?'),
        (CONTAINER, {**BASE, "memory": "many"}, "memory", "must be a whole number"),
        (CONTAINER, {**BASE, "memory": -1}, "memory", "0 or more"),
        (CONTAINER, {**BASE, "restart": "never"}, "restart", "must be one of no"),
        (CONTAINER, {**BASE, "gpus": "all"}, "gpus", "does not implement"),
        (CONTAINER, {**BASE, "exitCode": 1}, "exitCode", "unknown property"),
        (CONTAINER, {"name": "a"}, "image", "required"),
        (CONTAINER, {**BASE, "healthcheck": {"interval": "5"}}, "healthcheck.interval", "duration"),
        (CONTAINER, {**BASE, "uploads": [{"file": "/a"}]}, "uploads[0]", "exactly one of"),
        (CONTAINER, {**BASE, "ports": [{"ip": "::"}]}, "ports[0].internal", "required"),
        (SERVICE, {"name": "s", "taskSpec": {}}, "taskSpec.containerSpec", "required"),
        (
            SERVICE,
            {"name": "s", "taskSpec": TASK, "mode": {"global": True}, "convergeConfig": {}},
            "convergeConfig",
            "mode.global",
        ),
        (NETWORK, {"name": "n", "checkDuplicate": True}, "checkDuplicate", "unknown property"),
    ],
)
def test_an_invalid_input_is_rejected_with_its_path(
    resource: Resource, data: dict[str, Any], path: str, message: str
) -> None:
    _, failures = check(resource, data, {}, "n", b"")
    assert [(f.path, message in f.reason) for f in failures] == [(path, True)]


@pytest.mark.parametrize(
    ("before", "after", "paths", "replaced"),
    [
        ({"memory": 64}, {"memory": 96}, ["memory"], False),
        ({"memorySwap": 64}, {}, ["memorySwap"], False),
        ({"restart": "no"}, {"restart": "always"}, ["restart"], False),
        ({"cpus": "0.25"}, {"cpus": "0.5"}, ["cpus"], True),
        ({"image": "i"}, {"image": "j"}, ["image"], True),
        ({}, {"image": UNKNOWN}, ["image"], True),
        ({"init": True}, {"init": False}, ["init"], False),
        ({"init": True}, {}, [], False),
        ({"tmpfs": {"/t": "a"}}, {"tmpfs": {"/t": "b"}}, ['tmpfs["/t"]'], False),
        ({"envs": ["A=1", "B=2"]}, {"envs": ["B=2", "A=1"]}, [], False),
        ({"envs": ["A=1"]}, {"envs": ["A=2"]}, ["envs[0]"], True),
        ({"user": "1"}, {}, [], False),
        ({"privileged": False}, {}, [], False),
        (
            {"healthcheck": {"tests": ["a"]}},
            {"healthcheck": {"tests": ["b"]}},
            ["healthcheck.tests[0]"],
            False,
        ),
        (
            {"ports": [{"internal": 80, "external": 8080}]},
            {"ports": [{"internal": 80}]},
            [],
            False,
        ),
        ({"ports": [{"internal": 80}]}, {"ports": [{"internal": 81}]}, ["ports[0].internal"], True),
    ],
)
def test_a_changed_container_is_updated_or_replaced_as_upstream(
    before: dict[str, Any], after: dict[str, Any], paths: list[str], replaced: bool
) -> None:
    found = diff(
        CONTAINER, checked(CONTAINER, BASE | before), checked(CONTAINER, BASE | after), True
    )
    assert [c.path for c in found.changes] == paths
    assert found.replace is replaced
    assert found.delete_first is replaced


@pytest.mark.parametrize("key", ["memory", "healthcheck", "labels", "image", "readOnly"])
def test_an_output_unknown_to_the_engine_is_unknown_for_any_type(key: str) -> None:
    """The SDK passes an unknown value as a string; a property of any type accepts it."""
    given = {k: wrap(v) for k, v in BASE.items()} | {key: wrap(UNKNOWN)}
    sent = {k: PropertyValue.unmarshal(v.marshal()) for k, v in given.items()}
    news = checked(CONTAINER, plain_map(sent))
    assert news[key] is UNKNOWN
    state = checked(CONTAINER, BASE | {"healthcheck": {"tests": ["CMD", "true"]}})
    assert key in {c.path for c in diff(CONTAINER, state, news, True).changes}


def test_a_change_of_replicas_updates_in_place() -> None:
    old = checked(SERVICE, {"name": "s", "taskSpec": TASK, "mode": {"replicated": {"replicas": 1}}})
    new = old | {"mode": {"global": False, "replicated": {"replicas": 3}}}
    found = diff(SERVICE, old, new, True)
    assert [c.path for c in found.changes] == ["mode.replicated.replicas"]
    assert not found.replace


def test_an_image_differs_by_its_context_digest_but_not_by_its_password() -> None:
    old = {"__inputs": {"imageName": "i", "build": {"contextDigest": "a"}, "registry": {"p": "1"}}}
    same = {"imageName": "i", "build": {"contextDigest": "a"}, "registry": {"p": "2"}}
    assert diff(IMAGE, old, same, False).changes == ()
    other = same | {"build": {"contextDigest": "b"}}
    assert [c.path for c in diff(IMAGE, old, other, False).changes] == ["build"]


def test_an_automatic_name_is_stable_and_a_given_name_is_deleted_before_replacement() -> None:
    made, _ = check(VOLUME, {}, {}, "data", b"1")
    assert made["name"].startswith("data-")
    assert check(VOLUME, {}, made, "data", b"2")[0]["name"] == made["name"]
    new = made | {"driver": "other"}
    assert diff(VOLUME, made, new, True).delete_first
    assert not diff(VOLUME, made, new, False).delete_first


@pytest.mark.parametrize(
    ("nanos", "long", "short"),
    [
        (0, "0s", "0s"),
        (60 * 10**9, "1m0s", "1m"),
        (3600 * 10**9, "1h0m0s", "1h"),
        (1_500_000_000, "1.5s", "1.5s"),
        (250_000_000, "250ms", "250ms"),
    ],
)
def test_durations_are_read_and_written_in_gos_notation(nanos: int, long: str, short: str) -> None:
    assert (go_duration(nanos), short_duration(nanos)) == (long, short)
    assert parse_duration(long) == parse_duration(short) == nanos


@pytest.mark.parametrize(
    ("cpus", "text"), [(1.0, "1.0"), (0.25, "0.25"), (0.5, "0.5"), (0.05, "0.1"), (2.5, "2.5")]
)
def test_cpus_are_rounded_as_upstream(cpus: float, text: str) -> None:
    """This includes upstream's error for 0.05."""
    assert cpus_text(round(cpus * 10**9)) == text


def values_of(prop: Prop) -> st.SearchStrategy[Any]:
    """Return a strategy of values that a property accepts."""
    if prop.one_of:
        return st.sampled_from(prop.one_of)
    if prop.ratio:
        return st.sampled_from(["0.0", "0.25", "1"])
    if prop.duration:
        return st.sampled_from(["0s", "10s", "1m30s"])
    if prop.kind is Kind.STRING:
        return st.text(max_size=5)
    if prop.kind is Kind.INT:
        return st.integers(max(prop.minimum or 0, 0), 99)
    if prop.kind is Kind.BOOL:
        return st.booleans()
    if prop.kind is Kind.MAP:
        return st.dictionaries(st.text(min_size=1, max_size=3), st.text(max_size=3), max_size=2)
    if prop.item is not None:
        return st.lists(values_of(prop.item), max_size=3)
    return st.fixed_dictionaries(
        {k: values_of(p) for k, p in usable(prop.fields) if p.required},
        optional={k: values_of(p) for k, p in usable(prop.fields) if not p.required},
    )


def usable(fields: Any) -> list[tuple[str, Prop]]:
    """Return the properties that inputs may have."""
    return [(k, p) for k, p in fields.items() if not (p.output or p.unsupported)]


@functools.cache
def inputs_of(token: str) -> st.SearchStrategy[Any]:
    """Return a strategy of inputs of a resource type."""
    return values_of(Prop(Kind.OBJECT, fields=dict(usable(RESOURCES[token].fields))))


@pytest.mark.parametrize("token", sorted(RESOURCES))
@settings(max_examples=40)
@given(data=st.data())
def test_identical_inputs_have_no_diff(token: str, data: st.DataObject) -> None:
    """Check is idempotent."""
    resource = RESOURCES[token]
    inputs = data.draw(inputs_of(token))
    made, failures = check(resource, inputs, {}, "n", b"")
    if failures:
        return
    again, _ = check(resource, made, made, "n", b"")
    assert again == made
    state = {"__inputs": made} if resource is IMAGE else made
    assert diff(resource, state, again, True).changes == ()
