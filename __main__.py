"""The Pulumi program of this project: the stack that its settings declare."""

from ape_infra.program.main import run

run()
