"""`python -m ape_demo_target`: serve the shop. APE_DEMO_FAULTS=1 allows PUT /_faults."""

from __future__ import annotations

from aiohttp import web

from ape_demo_target.app import make_app
from ape_service import env
from ape_service.web import run


def from_env() -> web.Application:
    return make_app(faults=env.text("APE_DEMO_FAULTS", "0") == "1")


if __name__ == "__main__":
    run(from_env, "demo_target")
