"""`python -m ape_proxy`: serve the model that the settings name."""

from __future__ import annotations

import gc

from aiohttp import web

from ape_contracts.recording import RecordingError, load
from ape_contracts.service_settings import ProxySettings
from ape_proxy.app import Options, make_app
from ape_proxy.budget import Prices
from ape_proxy.limiter import Limits
from ape_proxy.models import Model, Offline
from ape_proxy.recording import Recorded
from ape_proxy.upstream import upstream_of
from ape_service.settings import problem, read_file, read_secret
from ape_service.web import run


def app_of(settings: ProxySettings) -> web.Application:
    """Raises ServiceSettingsError."""
    return make_app(
        _model(settings),
        Options(
            token=read_secret("token_file", settings.token_file),
            timeout=settings.request_timeout_seconds,
            retries=settings.retries,
            limits=Limits(
                requests_per_minute=settings.requests_per_minute,
                tokens_per_minute=settings.tokens_per_minute,
                agent_tokens_per_minute=settings.tokens_per_minute_per_agent,
                in_flight=settings.concurrency or Limits.in_flight,
                queue_seconds=settings.queue_seconds,
            ),
            prices=Prices(float(settings.input_price), float(settings.output_price)),
            most_tokens=settings.most_tokens,
            most_dollars=float(settings.most_dollars),
            agents_per_address=settings.agents_per_address,
            record=settings.record,
        ),
    )


def _model(settings: ProxySettings) -> Model:
    if settings.kind == "offline":
        return Offline()
    if settings.kind == "recorded":
        try:
            recording = load(read_file("recording_file", settings.recording_file))
        except RecordingError as error:
            raise problem("recording_file", error) from None
        return Recorded(settings.name, recording)
    return upstream_of(settings)


def make(settings: ProxySettings) -> web.Application:
    app = app_of(settings)
    # A full collection visits every open stream, and all of them wait for it: 30 ms at 1000. What
    # is loaded by now stays and need not be visited; the young are collected often enough for
    # pauses of some 5 ms, the old seldom (bench/proxy).
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)
    return app


if __name__ == "__main__":
    run(make, ProxySettings, "proxy", cancel_on_disconnect=True)
