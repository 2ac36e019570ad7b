"""The plugin process: the SDK's servicer, with readable errors, log messages and a clean exit.

`pulumi.provider.experimental.server.main` shows an error as "Unexpected <class ...>", has no access
to the engine's log, and outlives a killed engine.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
import traceback
from typing import Any

import grpc  # type: ignore[import-untyped, unused-ignore]
import grpc.aio  # type: ignore[import-untyped, unused-ignore]
from pulumi.provider.experimental.server import ProviderServicer
from pulumi.runtime._grpc_settings import _GRPC_CHANNEL_OPTIONS
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, provider_pb2_grpc

from ape_docker_provider import VERSION
from ape_docker_provider.daemon import ProviderError
from ape_docker_provider.plugin import DockerProvider

METHODS = (
    "CheckConfig",
    "Configure",
    "Check",
    "Diff",
    "Create",
    "Read",
    "Update",
    "Delete",
)


class EngineLog:
    """Sends messages to the engine's display; drops those that it cannot deliver."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._stub: Any = None
        self._lock = threading.Lock()

    def __call__(self, urn: str, message: str, status: bool) -> None:
        try:
            with self._lock:
                if self._stub is None:
                    channel = grpc.insecure_channel(self.address, options=_GRPC_CHANNEL_OPTIONS)
                    self._stub = engine_pb2_grpc.EngineStub(channel)
            request = engine_pb2.LogRequest(
                severity=engine_pb2.INFO, message=message, urn=urn, ephemeral=status
            )
            self._stub.Log(request, timeout=5)
        except grpc.RpcError:
            return


class Servicer(ProviderServicer):
    """The SDK's servicer, with readable errors."""


def with_readable_errors(name: str) -> Any:
    """Return a method of the SDK's servicer that reports errors as plain messages."""

    async def method(self: Any, request: Any, context: Any) -> Any:
        try:
            return await getattr(ProviderServicer, name)(self, request, context)
        except ProviderError as error:
            await context.abort(grpc.StatusCode.UNKNOWN, str(error))
        except grpc.aio.AbortError:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)[-6:]
            where = " > ".join(f"{f.name}:{f.lineno}" for f in frames)
            message = f"{type(error).__name__}: {error} (a bug in the provider: {where})"
            await context.abort(grpc.StatusCode.UNKNOWN, message)

    return method


for _name in METHODS:
    setattr(Servicer, _name, with_readable_errors(_name))


def watch_parent() -> None:
    """Exit when the engine has died."""
    parent = os.getppid()
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(0)


async def serve(address: str) -> None:
    """Serve until the engine ends the process."""
    server = grpc.aio.server(options=_GRPC_CHANNEL_OPTIONS)
    servicer = Servicer(sys.argv[1:], VERSION, DockerProvider(EngineLog(address)), address)
    provider_pb2_grpc.add_ResourceProviderServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    await server.wait_for_termination()


def main() -> None:
    """Serve the engine, whose address is the last argument that is not an option."""
    plain = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not plain:
        sys.exit("pulumi-resource-docker: only the Pulumi engine can start this program")
    # The engine ends its plugins with SIGINT and waits up to five seconds for each. A terminal's
    # Ctrl-C does not reach them: they have a process group of their own.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    threading.Thread(target=watch_parent, daemon=True).start()
    asyncio.run(serve(plain[-1]))
