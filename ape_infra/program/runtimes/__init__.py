"""Turn workloads into pulumi-docker resources; nothing else knows which runtime it is on."""

from ape_infra.program.runtimes.base import Network, Runtime
from ape_infra.program.runtimes.docker import DockerRuntime
from ape_infra.program.runtimes.swarm import SwarmRuntime

__all__ = ["DockerRuntime", "Network", "Runtime", "SwarmRuntime"]
