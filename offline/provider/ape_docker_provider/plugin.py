"""The provider: dispatches the engine's requests to pure functions and the resource modules."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from pulumi.provider.experimental import provider as api
from pulumi.provider.experimental.property_value import PropertyValue

from ape_docker_provider import (
    container,
    image,
    network,
    remote_image,
    secret,
    service,
    service_config,
    volume,
)
from ape_docker_provider.check import Failure, check, check_fields
from ape_docker_provider.daemon import Daemon, ProviderError
from ape_docker_provider.diff import Action, Diff, diff, diff_value, planned
from ape_docker_provider.schema import CONFIG, IMAGE, RESOURCES, Kind, Prop, Resource
from ape_docker_provider.values import (
    UNKNOWN,
    Data,
    has_unknown,
    plain_map,
    wrap,
    wrap_inputs,
    wrap_outputs,
)

THREADS = 64
T = TypeVar("T")
Bag = dict[str, PropertyValue]
KINDS = {
    (Action.ADD, False): api.PropertyDiffKind.ADD,
    (Action.ADD, True): api.PropertyDiffKind.ADD_REPLACE,
    (Action.DELETE, False): api.PropertyDiffKind.DELETE,
    (Action.DELETE, True): api.PropertyDiffKind.DELETE_REPLACE,
    (Action.UPDATE, False): api.PropertyDiffKind.UPDATE,
    (Action.UPDATE, True): api.PropertyDiffKind.UPDATE_REPLACE,
}


class Log(Protocol):
    """Receives messages for the user."""

    def __call__(self, urn: str, message: str, status: bool) -> None:
        """Show one message; a status is replaced by the next one."""


class DockerProvider(api.Provider):
    """docker:index/*, at the schema of pulumi-docker 5.2.0."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.daemon = Daemon({})
        self.known_containers = container.KnownContainers()
        self.user_names: dict[str, bool] = {}
        self.pool = ThreadPoolExecutor(THREADS, thread_name_prefix="docker")

    async def _in_pool(self, work: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def check_config(self, request: api.CheckRequest) -> api.CheckResponse:
        """Accept the published plugin's configuration; reject unsupported keys."""
        failures: list[Failure] = []
        given = plain_map(request.new_inputs)
        known = {k: v for k, v in given.items() if k not in ("version", "pluginDownloadURL")}
        for key in ("registryAuth", "sshOpts", "disableDockerDaemonCheck"):
            known.pop(key, None) if CONFIG[key].unsupported == "" else None
        check_fields(CONFIG, known, "", failures)
        return api.CheckResponse(request.new_inputs, [as_failure(f) for f in failures])

    async def diff_config(self, request: api.DiffRequest) -> api.DiffResponse:
        """A change of the configuration replaces nothing."""
        return api.DiffResponse(changes=False)

    async def configure(self, request: api.ConfigureRequest) -> api.ConfigureResponse:
        """Store the configuration. No request is sent to the daemon."""
        config = plain_map(request.args)
        for key, value in request.variables.items():
            config.setdefault(key.removeprefix("docker:config:"), value)
        self.daemon = Daemon(config)
        return api.ConfigureResponse(accept_secrets=True, supports_preview=True)

    async def check(self, request: api.CheckRequest) -> api.CheckResponse:
        """Fill in defaults and reject errors. No request is sent to the daemon."""
        resource = find(request.type)
        news = plain_map(request.new_inputs)
        olds = plain_map(request.old_inputs)
        made, failures = check(resource, news, olds, request.name, request.random_seed)
        if resource is IMAGE and not failures:
            made, failures, advice = await self._in_pool(lambda: image.check_image(made))
            for line in advice:
                self.log(request.urn, line, False)
        self.user_names[request.urn] = "name" in news
        return api.CheckResponse(
            wrap_inputs(made, request.new_inputs), [as_failure(f) for f in failures]
        )

    async def diff(self, request: api.DiffRequest) -> api.DiffResponse:
        """Return the changes and replacements. No request is sent to the daemon."""
        self.known_containers.ids.add(request.resource_id)
        named = self.user_names.get(request.urn, False)
        state, news = plain_map(request.old_state), plain_map(request.new_inputs)
        return answer(diff(find(request.type), state, news, named))

    async def create(self, request: api.CreateRequest) -> api.CreateResponse:
        """Create the resource; in a preview, return the known outputs."""
        resource = find(request.type)
        inputs = plain_map(request.properties)
        if request.preview:
            return api.CreateResponse(None, preview(resource, request.properties, {}))
        report = self._report(request.urn)

        def work() -> tuple[str, Data]:
            return create(self.daemon, resource, inputs, self.known_containers, report)

        made_id, made = await self._in_pool(work)
        return api.CreateResponse(made_id, outputs(resource, made, request.properties))

    async def read(self, request: api.ReadRequest) -> api.ReadResponse:
        """Return the daemon's state, or nothing. Without properties it is an import."""
        resource = find(urn_type(request.urn))
        known, inputs = plain_map(request.properties), plain_map(request.inputs)

        def work() -> tuple[str, Data] | None:
            return read(self.daemon, resource, request.resource_id, known, inputs)

        found = await self._in_pool(work)
        if found is None:
            return api.ReadResponse(None, None, None)
        made_id, state = found
        like = request.inputs | {k: v for k, v in request.properties.items() if v.is_secret}
        read_inputs = inputs_of(resource, state, inputs)
        return api.ReadResponse(
            made_id, outputs(resource, state, like), wrap_inputs(read_inputs, like)
        )

    async def update(self, request: api.UpdateRequest) -> api.UpdateResponse:
        """Change the resource in place."""
        resource = find(request.type)
        state, news = plain_map(request.olds), plain_map(request.news)
        if request.preview:
            return api.UpdateResponse(preview(resource, request.news, state))
        report = self._report(request.urn)

        def work() -> Data:
            return update(self.daemon, resource, request.resource_id, state, news, report)

        made = await self._in_pool(work)
        return api.UpdateResponse(outputs(resource, made, request.news))

    async def delete(self, request: api.DeleteRequest) -> None:
        """Remove the resource; an absent one is not an error."""
        resource = find(request.type)
        state = plain_map(request.properties)
        await self._in_pool(lambda: delete(self.daemon, resource, request.resource_id, state))

    async def cancel(self) -> None:
        """End all waits."""
        self.daemon.cancel()

    def _report(self, urn: str) -> Callable[[str], None]:
        return lambda line: self.log(urn, line, True)


def find(token: str) -> Resource:
    """Return the resource of a type token, also of a child's URN type. Raises ProviderError."""
    token = token.rsplit("$", 1)[-1]
    if token not in RESOURCES:
        known = ", ".join(sorted(RESOURCES))
        raise ProviderError(
            f"the offline stand-in of the docker plugin has no {token}; it has {known}"
        )
    return RESOURCES[token]


def urn_type(urn: str) -> str:
    """Return the type in a URN."""
    return urn.split("::")[-2]


def as_failure(failure: Failure) -> api.CheckFailure:
    """Convert a failure to the engine's form."""
    return api.CheckFailure(failure.path, failure.reason)


def answer(found: Diff) -> api.DiffResponse:
    """Convert a diff to the engine's form."""
    details = {c.path: api.PropertyDiff(KINDS[c.action, c.replace], True) for c in found.changes}
    return api.DiffResponse(
        changes=bool(found.changes),
        replaces=sorted({top(c.path) for c in found.changes if c.replace}),
        diffs=sorted({top(c.path) for c in found.changes}),
        delete_before_replace=found.delete_first,
        detailed_diff=details,
    )


def top(path: str) -> str:
    """Return the top-level property of a path."""
    return path.split(".")[0].split("[")[0]


def preview(resource: Resource, news: Bag, state: Data) -> Bag:
    """Return the outputs in a preview: inputs, and unknowns for values of the daemon."""
    inputs = plain_map(news)
    made = planned(resource.fields, state, inputs) if resource is not IMAGE else dict(inputs)
    for key, prop in resource.fields.items():
        if key in made or not (prop.output or prop.computed):
            continue
        keep = state and resource is not IMAGE and key in state
        made[key] = state[key] if keep else UNKNOWN
    return {
        k: wrap(v, news.get(k)) if k in news else wrap(v).with_secret(k in resource.sensitive)
        for k, v in made.items()
    }


def outputs(resource: Resource, made: Data, like: Bag) -> Bag:
    """Return the outputs for the state; docker.Image adds its inputs as one secret."""
    bag = wrap_outputs({k: v for k, v in made.items() if k != "__inputs"}, like, resource.sensitive)
    if "__inputs" in made:
        bag["__inputs"] = wrap(made["__inputs"]).with_secret(True)
    return bag


def inputs_of(resource: Resource, state: Data, inputs: Data) -> Data:
    """Return the inputs of a state: the old keys on a refresh, all on an import."""
    if resource is IMAGE:
        return inputs
    made = {}
    for key, prop in resource.fields.items():
        if prop.output or key not in state:
            continue
        if inputs and key in inputs:
            made[key] = shaped(prop, state[key], inputs[key])
        elif not inputs and state[key] not in (None, "", 0, False, [], {}):
            made[key] = state[key]
    return made


def shaped(prop: Prop, found: Any, old: Any) -> Any:
    """Return the value read, or the user's own value where both mean the same."""
    changes: list[Any] = []
    diff_value(prop, found, old, "", changes)
    if not changes or has_unknown(old):
        return old
    if prop.kind is Kind.OBJECT and isinstance(old, dict) and isinstance(found, dict):
        return {k: shaped(prop.fields[k], found[k], old[k]) for k in old if k in found}
    return found


def create(
    daemon: Daemon,
    resource: Resource,
    inputs: Data,
    known_containers: container.KnownContainers,
    report: Callable[[str], None],
) -> tuple[str, Data]:
    """Create a resource; return its id and state."""
    match resource.token.rsplit(":", 1)[-1]:
        case "Network":
            made = network.create(daemon, inputs)
        case "Volume":
            made = volume.create(daemon, inputs)
        case "Container":
            return container.create(daemon, inputs, known_containers)
        case "Image":
            built = image.build(daemon, inputs, report)
            return inputs["imageName"], built | {"__inputs": inputs}
        case "RemoteImage":
            return remote_image.create(daemon, inputs)
        case "Service":
            return service.create(daemon, inputs)
        case "Secret":
            return secret.create(daemon, inputs, "secret")
        case _:
            return service_config.create(daemon, inputs)
    return made[0], inputs | made[1]


def read(
    daemon: Daemon, resource: Resource, name: str, known: Data, inputs: Data
) -> tuple[str, Data] | None:
    """Read a resource; return its id and state, or None."""
    match resource.token.rsplit(":", 1)[-1]:
        case "Network":
            found = network.read(daemon, name)
        case "Volume":
            found = volume.read(daemon, name)
        case "Container":
            return container.read(daemon, name, known)
        case "Image":
            return (name, known) if image.read(daemon, inputs, known) else None
        case "RemoteImage":
            return remote_image.read(daemon, known)
        case "Service":
            return service.read(daemon, name, known)
        case "Secret":
            return secret.read(daemon, name, known, "secret")
        case _:
            return service_config.read(daemon, name, known)
    return (found[0], known | found[1]) if found else None


def update(
    daemon: Daemon,
    resource: Resource,
    name: str,
    state: Data,
    news: Data,
    report: Callable[[str], None],
) -> Data:
    """Change a resource in place; return its new state."""
    kind = resource.token.rsplit(":", 1)[-1]
    if kind == "Image":
        return image.build(daemon, news, report) | {"__inputs": news}
    plan = planned(resource.fields, state, news)
    if kind == "Container":
        return container.update(daemon, name, state, plan)
    if kind == "Service":
        return service.update(daemon, name, state, plan)
    return {k: v for k, v in state.items() if resource.fields[k].output} | plan


def delete(daemon: Daemon, resource: Resource, name: str, state: Data) -> None:
    """Remove a resource."""
    match resource.token.rsplit(":", 1)[-1]:
        case "Network":
            network.delete(daemon, name)
        case "Volume":
            volume.delete(daemon, name)
        case "Container":
            container.delete(daemon, name, state)
        case "RemoteImage":
            remote_image.delete(daemon, state)
        case "Service":
            service.delete(daemon, name, state)
        case "Secret":
            secret.delete(daemon, name, "secret")
        case "ServiceConfig":
            service_config.delete(daemon, name)
