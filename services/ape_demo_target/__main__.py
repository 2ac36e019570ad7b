"""`python -m ape_demo_target`: serve the shop."""

from __future__ import annotations

from aiohttp import web

from ape_contracts.service_settings import DemoTargetSettings
from ape_demo_target.app import make_app
from ape_service.web import run


def make(settings: DemoTargetSettings) -> web.Application:
    return make_app(faults=settings.faults)


if __name__ == "__main__":
    run(make, DemoTargetSettings, "demo_target")
