"""Made-up results of runs, for pages and comparisons."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from typing import Any

from ape_contracts.sketch import Sketch

STARTED = 1_796_000_000.0
# Endpoint -> (part of the requests, median in seconds).
ENDPOINTS = {
    "GET /products": (0.4, 0.035),
    "GET /products/{id}": (0.3, 0.05),
    "POST /cart": (0.2, 0.09),
    "POST /checkout": (0.1, 0.24),
}


def sketch(values: list[float]) -> Sketch:
    found = Sketch()
    for value in values:
        found.add(value)
    return found


def stats(found: Sketch) -> dict[str, Any]:
    names = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99}
    percentiles = {name: found.quantile(q) for name, q in names.items()}
    return {
        "count": found.count,
        "min": found.min,
        "mean": found.mean,
        "max": found.max,
    } | percentiles


def measurements(
    seed: int = 1,
    *,
    slower: float = 1.0,
    intervals: int = 30,
    requests: int = 40,
    failing: float = 0.05,
    endpoints: Mapping[str, tuple[float, float]] = ENDPOINTS,
    warm_up: int = 0,
    noise: float = 0.05,
) -> dict[str, Any]:
    """As `measurements.json`: an interval has a disturbance of its own (`noise`)."""
    draw = random.Random(seed)  # noqa: S311
    found: list[dict[str, Any]] = []
    for at in range(warm_up + intervals):
        pace = slower * math.exp(draw.gauss(0, noise))
        counts = {name: round(requests * part) for name, (part, _) in endpoints.items()}
        durations = {
            name: sketch(
                [median * pace * math.exp(draw.gauss(0, 0.5)) for _ in range(counts[name])]
            ).plain()
            for name, (_, median) in endpoints.items()
        }
        ended = max(1, requests // 8)
        failed = sum(draw.random() < failing for _ in range(ended))
        lengths = [pace * draw.uniform(4, 9) for _ in range(ended)]
        first_tokens = [0.3 * math.exp(draw.gauss(0, 0.4)) for _ in range(ended * 3)]
        found.append(
            {
                "from": 10.0 * at,
                "to": 10.0 * (at + 1),
                "phase": "warm_up" if at < warm_up else "main",
                "stage": 0,
                "target": 50.0,
                "active": draw.randint(47, 50),
                "dropped": draw.randint(0, 1),
                "endpoints": durations,
                "sessions": {
                    "succeeded": ended - failed,
                    "failed": failed,
                    "seconds": sketch(lengths).plain(),
                },
                "requests_failed": draw.randint(0, requests // 30),
                "ttft": sketch(first_tokens).plain(),
                "tokens_in": ended * 4000,
                "tokens_out": ended * 310,
                "cost_dollars": ended * 0.0021,
            }
        )
    return {"version": 1, "interval_seconds": 10, "intervals": found}


def _sessions(main: list[dict[str, Any]]) -> dict[str, Any]:
    succeeded = sum(x["sessions"]["succeeded"] for x in main)
    failed = sum(x["sessions"]["failed"] for x in main)
    lengths = Sketch().merged(Sketch.of(x["sessions"]["seconds"]) for x in main)
    return {
        "planned": None,
        "started": succeeded + failed + 2,
        "succeeded": succeeded,
        "failed": failed,
        "aborted": 2,
        "dropped": sum(x["dropped"] for x in main),
        "late": 3,
        "success_rate": succeeded / (succeeded + failed),
        "goodput": succeeded / (10 * len(main)),
        "duration": stats(lengths),
        "steps_mean": 6.3,
        "lateness": stats(Sketch()),
        "reasons": {"gave_up": failed - failed // 3, "model_error": failed // 3},
        "failures": [
            {"reason": "gave_up", "detail": "I cannot find a lamp.", "sessions": failed // 2},
            {"reason": "model_error", "detail": "502 bad_answer", "sessions": failed // 3},
        ],
    }


def _endpoint(name: str, main: list[dict[str, Any]]) -> dict[str, Any]:
    whole = Sketch().merged(Sketch.of(x["endpoints"][name]) for x in main)
    failed = whole.count // 60
    return {
        "endpoint": name,
        "scenario": "default",
        "count": whole.count,
        "failed": failed,
        "rate": whole.count / (10 * len(main)),
        "statuses": {"2xx": whole.count - failed, "4xx": failed - failed // 4, "5xx": failed // 4},
        "errors": {"target_timeout": 1} if failed else {},
        "bytes_sent": whole.count * 300,
        "bytes_received": whole.count * 2100,
        "duration": stats(whole),
    }


def summary(found: dict[str, Any], run: str = "20261127T174203Z-dev") -> dict[str, Any]:
    """As `summary.json`, of `measurements`."""
    main = [x for x in found["intervals"] if x["phase"] == "main"]
    names = sorted({name for x in main for name in x["endpoints"]})
    endpoints = [_endpoint(name, main) for name in names]
    all_requests = Sketch().merged(Sketch.of(s) for x in main for s in x["endpoints"].values())
    first_tokens = Sketch().merged(Sketch.of(x["ttft"]) for x in main)
    sessions, empty = _sessions(main), stats(Sketch())
    p95 = all_requests.quantile(0.95)
    return {
        "version": 1,
        "run": run,
        "project": "shop",
        "stack": "dev",
        "state": "failed",
        "exit_code": 5,
        "started": STARTED,
        "ended": STARTED + 10 * len(found["intervals"]),
        "planned_seconds": 10 * len(found["intervals"]),
        "measured_seconds": 10 * len(main),
        "executor": "closed",
        "settings": {"agents": 50, "duration": "5m", "target": "https://shop.example"},
        "versions": {"ape": "1.0.0", "images": {"gateway": "ape-gateway@sha256:" + "0" * 64}},
        "model": {"kind": "live", "provider": "cerebras", "name": "llama-3.3-70b"},
        "thresholds": [
            _threshold("session_success >= 0.99", sessions["success_rate"], False),
            _threshold('http_req_duration{endpoint="POST /checkout"}.p95 < 0.9', p95, True),
            _threshold("ttft.p95 < 1", first_tokens.quantile(0.95), True),
            _threshold("cost_dollars < 5", 1.2345, True),
        ],
        "sessions": sessions,
        "scenarios": {"default": sessions},
        "requests": {
            "count": all_requests.count,
            "failed": sum(x["failed"] for x in endpoints),
            "rate": all_requests.count / (10 * len(main)),
            "failed_rate": sum(x["failed"] for x in endpoints) / max(1, all_requests.count),
            "bytes_sent": all_requests.count * 300,
            "bytes_received": all_requests.count * 2100,
            "duration": stats(all_requests),
        },
        "endpoints": endpoints,
        "model_use": {
            "completions": 1900,
            "failed": 4,
            "retries": 7,
            "tokens_in": sum(x["tokens_in"] for x in main),
            "tokens_out": sum(x["tokens_out"] for x in main),
            "cost_dollars": sum(x["cost_dollars"] for x in main),
            "ttft": stats(first_tokens),
            "itl": empty,
            "duration": empty,
            "queue": empty,
            "tokens_per_second": empty,
        },
        "lost": {"results": 0, "gateway_restarts": 0, "missed_sessions": 0},
        "notes": [],
    }


def _threshold(expression: str, value: float | None, passed: bool) -> dict[str, Any]:
    return {
        "expression": expression,
        "value": value,
        "passed": passed,
        "abort": False,
        "samples": 100,
    }


def transcript(session: int = 7, reason: str = "gave_up") -> dict[str, Any]:
    """A failed session, as the gateway keeps it."""
    call = {"id": "c1", "function": {"name": "request", "arguments": '{"path": "/products"}'}}
    return {
        "slot": 3,
        "run": "20261127T174203Z-dev",
        "session": session,
        "scenario": "default",
        "reason": reason,
        "detail": "I cannot find a lamp.",
        "messages": [
            {
                "role": "system",
                "content": "You are a customer of a shop.\nFind a lamp and order it.",
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": '{"status": 200, "body": []}'},
            {"role": "assistant", "content": "I cannot find a lamp."},
        ],
    }
