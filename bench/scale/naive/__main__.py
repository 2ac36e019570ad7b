"""The simplest program: a network, and N containers in a loop."""

import pulumi
import pulumi_docker as docker

network = docker.Network("naive")
for i in range(pulumi.Config("naive").require_int("agents")):
    docker.Container(
        f"agent-{i}",
        image="python:3.11-slim",
        command=["sleep", "infinity"],
        memory=128,
        memory_swap=128,
        networks_advanced=[docker.ContainerNetworksAdvancedArgs(name=network.name)],
    )
