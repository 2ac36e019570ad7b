"""The plugin process: the SDK's servicer, with clean errors, messages and a clean end.

`pulumi.provider.experimental.server.main` would do, but it shows an error as "Unexpected <class
...>", has no way to the engine's log, and outlives a killed engine.
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
    """Messages to the engine's display. A message that cannot be delivered is dropped."""

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
    """The SDK's servicer; errors reach the user as plain sentences."""


def guarded(name: str) -> Any:
    """A method of the SDK's servicer with our errors."""

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
            words = f"{type(error).__name__}: {error} (a fault of the provider: {where})"
            await context.abort(grpc.StatusCode.UNKNOWN, words)

    return method


for _name in METHODS:
    setattr(Servicer, _name, guarded(_name))


def watch_parent() -> None:
    """End when the engine has died without a word."""
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
    """Started by the engine with its address as the last plain argument."""
    plain = [a for a in sys.argv[1:] if not a.startswith("-")]
    if not plain:
        sys.exit("pulumi-resource-docker: started by the Pulumi engine, with its address")
    # The engine ends its plugins with SIGINT and waits five seconds for each that does not go. A
    # terminal's Ctrl-C does not come here: they have a process group of their own.
    signal.signal(signal.SIGINT, lambda *_: os._exit(0))
    threading.Thread(target=watch_parent, daemon=True).start()
    asyncio.run(serve(plain[-1]))
