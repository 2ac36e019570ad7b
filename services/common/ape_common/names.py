"""Every metric of the services: names, labels, meaning. Dashboards and alerts read from here."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    # Upper bounds of a histogram; empty: those of durations of requests.
    buckets: tuple[float, ...] = ()


GATEWAY_REQUESTS = Metric(
    "ape_gateway_requests_total",
    "counter",
    "Requests that the target answered, by the target's own status.",
    ("route", "method", "status"),
)
GATEWAY_ERRORS = Metric(
    "ape_gateway_errors_total",
    "counter",
    "Requests that the gateway answered itself: refused, target unreachable, target too slow.",
    ("route", "method", "status", "error"),
)
GATEWAY_RETRIES = Metric(
    "ape_gateway_retries_total",
    "counter",
    "Attempts that were followed by another, by what made the gateway try again.",
    ("route", "method", "cause"),
)
GATEWAY_FIRST = Metric(
    "ape_gateway_first_attempts_total",
    "counter",
    "First attempts by what came of them: the target's status, connection, or timeout.",
    ("route", "method", "outcome"),
)
GATEWAY_SECONDS = Metric(
    "ape_gateway_request_duration_seconds",
    "histogram",
    "Time of the target's final answer, from its request to the end of its body.",
    ("route", "method"),
)
GATEWAY_QUEUE_SECONDS = Metric(
    "ape_gateway_queue_seconds", "histogram", "Time a request waited for its turn in the gateway."
)
GATEWAY_IN_FLIGHT = Metric(
    "ape_gateway_in_flight_requests", "gauge", "Requests under way to targets."
)
GATEWAY_QUEUED = Metric(
    "ape_gateway_queued_requests", "gauge", "Requests that wait for their turn in the gateway."
)
GATEWAY_ROUTE_UP = Metric(
    "ape_gateway_route_up",
    "gauge",
    "Whether the route's health path answered 2xx, for routes with a health check.",
    ("route",),
)
SESSIONS = Metric("ape_sessions_total", "counter", "Finished agent sessions.", ("result", "reason"))
SESSION_SECONDS = Metric(
    "ape_session_duration_seconds", "histogram", "Length of agent sessions.", ("result",)
)
AGENTS = Metric(
    "ape_agents", "gauge", "Agents with a heartbeat younger than 30 s, by state.", ("state",)
)
AGENTS_DECLARED = Metric("ape_agents_declared", "gauge", "Agents that the stack declares.")
STEPS = Metric(
    "ape_steps_total", "counter", "Actions of agents, by what came of them.", ("result",)
)
STEP_SECONDS = Metric(
    "ape_step_duration_seconds",
    "histogram",
    "Time from an agent's action to its answer, as the agent sees it, the gateway included.",
    ("result",),
)
TIME_BETWEEN_ACTIONS = Metric(
    "ape_time_between_actions_seconds",
    "histogram",
    "Time from an answer to the agent's next action: the model and the pause.",
)
AGENT_MEMORY = Metric(
    "ape_agent_resident_memory_bytes",
    "gauge",
    "Resident memory of an agent's process, its share where one process holds many.",
    ("agent",),
)
AGENT_RESULTS_LOST = Metric(
    "ape_agent_results_lost_total",
    "counter",
    "Steps and sessions that agents had to forget while the gateway was away.",
)
PROXY_REQUESTS = Metric(
    "ape_proxy_requests_total",
    "counter",
    "Completions by what came of them and the status that the client got.",
    ("model", "result", "status"),
)
PROXY_FIRST_TOKEN_SECONDS = Metric(
    "ape_proxy_time_to_first_token_seconds",
    "histogram",
    "Streams: time from the request, its wait included, to the first text or tool call.",
    ("model",),
)
PROXY_INTER_TOKEN_SECONDS = Metric(
    "ape_proxy_inter_token_seconds",
    "histogram",
    "Streams: time between two events with text or a tool call.",
    ("model",),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)
PROXY_SECONDS = Metric(
    "ape_proxy_request_duration_seconds",
    "histogram",
    "Time from the request, its wait included, to the end of the answer.",
    ("model",),
)
PROXY_QUEUE_SECONDS = Metric(
    "ape_proxy_queue_seconds",
    "histogram",
    "Time that a completion waited for the limits of the model.",
    ("model",),
)
PROXY_TOKENS_PER_SECOND = Metric(
    "ape_proxy_output_tokens_per_second",
    "histogram",
    "Completion tokens of one answer by its duration, the wait in the queue left out.",
    ("model",),
    (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000),
)
PROXY_TOKENS_IN = Metric(
    "ape_proxy_input_tokens_total", "counter", "Prompt tokens, as the model counts.", ("model",)
)
PROXY_TOKENS_OUT = Metric(
    "ape_proxy_output_tokens_total",
    "counter",
    "Completion tokens, as the model counts.",
    ("model",),
)
PROXY_COST = Metric(
    "ape_proxy_cost_dollars_total",
    "counter",
    "Price of the tokens; nothing while no price is set.",
    ("model",),
)
PROXY_RETRIES = Metric(
    "ape_proxy_retries_total",
    "counter",
    "Attempts that were followed by another, by their status or error.",
    ("model", "cause"),
)
PROXY_REFUSALS = Metric(
    "ape_proxy_refusals_total",
    "counter",
    "Requests that the proxy answered itself, with an error, by its code.",
    ("code",),
)
PROXY_IN_FLIGHT = Metric(
    "ape_proxy_in_flight_requests", "gauge", "Completions under way to the model."
)
PROXY_QUEUED = Metric(
    "ape_proxy_queued_requests", "gauge", "Completions that wait for the limits of the model."
)
DEMO_REQUESTS = Metric(
    "ape_demo_requests_total", "counter", "Requests to the shop.", ("endpoint", "status")
)
DEMO_ORDERS = Metric("ape_demo_orders_total", "counter", "Orders that the shop took.")

ALL: tuple[Metric, ...] = tuple(v for v in list(globals().values()) if isinstance(v, Metric))

SUCCESS, FAILURE = "success", "failure"
GOAL_MET = "goal_met"
# Why a session failed; the only values of label `reason` beside goal_met.
FAILURE_REASONS = (
    "target_error",
    "gateway_error",
    "model_error",
    "step_limit",
    "time_limit",
    "gave_up",
    "aborted",
)
AGENT_STATES = ("waiting", "running", "finished", "stopping")
# What came of a completion. incomplete: a stream that broke; cancelled: its client went away.
PROXY_RESULTS = ("success", "incomplete", "cancelled", "error")
# What came of a step. refused: by the gateway, with a 4xx of its own. bad_call: no request in it.
STEP_RESULTS = ("ok", "target_error", "refused", "gateway_error", "bad_call")


def agent(slot: int) -> str:
    """The agent's name, stable over restarts: agent-0001."""
    return f"agent-{slot:04d}"
