"""The metric catalog: names, types, help texts and labels, for services, dashboards and alerts."""

from __future__ import annotations

from typing import Literal, NamedTuple


class Metric(NamedTuple):
    name: str
    kind: Literal["counter", "gauge", "histogram", "untyped"]
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
    "Requests that the gateway answered itself: rejected, target unreachable, target timeout.",
    ("route", "method", "status", "error"),
)
GATEWAY_RETRIES = Metric(
    "ape_gateway_retries_total",
    "counter",
    "Attempts that were followed by another, by the cause of the retry.",
    ("route", "method", "cause"),
)
GATEWAY_FIRST = Metric(
    "ape_gateway_first_attempts_total",
    "counter",
    "First attempts by outcome: the target's status, connection, or timeout.",
    ("route", "method", "outcome"),
)
GATEWAY_SECONDS = Metric(
    "ape_gateway_request_duration_seconds",
    "histogram",
    "Time of the target's final answer, from its request to the end of its body.",
    ("route", "method"),
)
GATEWAY_QUEUE_SECONDS = Metric(
    "ape_gateway_queue_seconds", "histogram", "Time for which a request was queued in the gateway."
)
GATEWAY_IN_FLIGHT = Metric(
    "ape_gateway_in_flight_requests", "gauge", "Requests in flight to targets."
)
GATEWAY_QUEUED = Metric(
    "ape_gateway_queued_requests", "gauge", "Requests that are queued in the gateway."
)
GATEWAY_ROUTE_UP = Metric(
    "ape_gateway_route_up",
    "gauge",
    "Whether the route's health path answered 2xx, for routes with a health check.",
    ("route",),
)
GATEWAY_REPORTS_REFUSED = Metric(
    "ape_gateway_reports_refused_total",
    "counter",
    "Reports of agents that were refused as a whole, by reason.",
    ("reason",),
)
SESSIONS = Metric("ape_sessions_total", "counter", "Finished agent sessions.", ("result", "reason"))
SESSION_SECONDS = Metric(
    "ape_session_duration_seconds", "histogram", "Length of agent sessions.", ("result",)
)
AGENTS = Metric(
    "ape_agents", "gauge", "Agents with a heartbeat younger than 30 s, by state.", ("state",)
)
AGENTS_DECLARED = Metric("ape_agents_declared", "gauge", "Agents that the stack declares.")
STEPS = Metric("ape_steps_total", "counter", "Steps of agents, by result.", ("result",))
STEP_SECONDS = Metric(
    "ape_step_duration_seconds",
    "histogram",
    "Time from an agent's request to its answer, with the time in the gateway.",
    ("result",),
)
TIME_BETWEEN_ACTIONS = Metric(
    "ape_time_between_actions_seconds",
    "histogram",
    "Time from an answer to the agent's next request: the model and the pause.",
)
AGENT_RESIDENT_MEMORY = Metric(
    "ape_agent_resident_memory_bytes",
    "gauge",
    "Resident memory of an agent: of its process, divided by the agents in it.",
    ("agent",),
)
REPAIRED_CALLS = Metric(
    "ape_agent_repaired_calls_total",
    "counter",
    "Tool calls of the model that nearly fitted and were put right, by what was wrong.",
    ("kind",),
)
AGENT_RESULTS_LOST = Metric(
    "ape_agent_results_lost_total",
    "counter",
    "Steps and sessions that agents dropped while the gateway was not available.",
)
PROXY_REQUESTS = Metric(
    "ape_proxy_requests_total",
    "counter",
    "Completions by result, and by the status that the client got.",
    ("model", "result", "status"),
)
PROXY_FINISHED = Metric(
    "ape_proxy_finished_total",
    "counter",
    "Answers with a message, by the model's finish reason; other: none of OpenAI's.",
    ("model", "finish_reason"),
)
PROXY_FIRST_TOKEN_SECONDS = Metric(
    "ape_proxy_time_to_first_token_seconds",
    "histogram",
    "Streams: time from the request, with its time in the queue, to the first text or tool call.",
    ("model",),
)
PROXY_INTER_TOKEN_SECONDS = Metric(
    "ape_proxy_inter_token_seconds",
    "histogram",
    "Streams: mean time between two tokens of an answer, by the model's count of them.",
    ("model",),
    (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0),
)
PROXY_SECONDS = Metric(
    "ape_proxy_request_duration_seconds",
    "histogram",
    "Time from the request, with its time in the queue, to the end of the answer.",
    ("model",),
)
PROXY_QUEUE_SECONDS = Metric(
    "ape_proxy_queue_seconds",
    "histogram",
    "Time for which a completion was queued for the limits of the model.",
    ("model",),
)
PROXY_TOKENS_PER_SECOND = Metric(
    "ape_proxy_output_tokens_per_second",
    "histogram",
    "Completion tokens of one answer per second, without its time in the queue.",
    ("model",),
    (1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000),
)
PROXY_TOKENS_IN = Metric(
    "ape_proxy_input_tokens_total",
    "counter",
    "Prompt tokens, as the model counts, or estimated where it did not.",
    ("model",),
)
PROXY_TOKENS_OUT = Metric(
    "ape_proxy_output_tokens_total",
    "counter",
    "Completion tokens, as the model counts, or estimated where it did not.",
    ("model",),
)
PROXY_COST = Metric(
    "ape_proxy_cost_dollars_total",
    "counter",
    "Price of the tokens; absent if no price is set.",
    ("model",),
)
PROXY_BUDGET_USED = Metric(
    "ape_proxy_budget_used_ratio",
    "gauge",
    "Used part of the spend limit that is nearer (1: all); absent without a limit.",
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
    "Requests that the proxy rejected, by error code.",
    ("code",),
)
PROXY_IN_FLIGHT = Metric(
    "ape_proxy_in_flight_requests", "gauge", "Completions in flight to the model."
)
PROXY_QUEUED = Metric(
    "ape_proxy_queued_requests", "gauge", "Completions that are queued for the limits of the model."
)
DEMO_REQUESTS = Metric(
    "ape_demo_requests_total", "counter", "Requests to the demo target.", ("endpoint", "status")
)
DEMO_ORDERS = Metric("ape_demo_orders_total", "counter", "Orders of the demo target.")

# The monitor. cAdvisor's own names (container_…) where the meaning is the same. `name` is the
# stable name of a container (agent-0001, gateway), never its id.
# `tier` and `shard` are those of agents.
_CONTAINER = ("name", "service", "tier", "shard")
AGENT_MEMORY = Metric(
    "ape_agent_memory_usage_bytes", "gauge", "Working set of an agent's container.", ("agent",)
)
AGENT_CPU = Metric(
    "ape_agent_cpu_usage_percent", "gauge", "CPU of an agent's container, of one core.", ("agent",)
)
# The required name; a gauge must not end in _total, so the metric has no type.
CONCURRENT_AGENTS = Metric("ape_concurrent_agents_total", "untyped", "Running agents.")
FLEET_AGENTS = Metric(
    "ape_fleet_agents",
    "gauge",
    "Agents declared, running and healthy in Docker, seen by the gateway, and missing.",
    ("state",),
)
SYSTEM_MEMORY = Metric("ape_system_memory_percent", "gauge", "Memory in use of the machine.")
SYSTEM_SWAP = Metric("ape_system_swap_percent", "gauge", "Swap in use of the machine.")
SYSTEM_CPU = Metric("ape_system_cpu_percent", "gauge", "CPU in use, of all cores of the machine.")
SYSTEM_IOWAIT = Metric(
    "ape_system_iowait_percent", "gauge", "CPU that waits for disks, of all cores of the machine."
)
SYSTEM_DISK = Metric(
    "ape_system_disk_percent", "gauge", "Disk in use, by file system.", ("mountpoint",)
)
SYSTEM_LOAD = Metric("ape_system_load1", "gauge", "Load average of one minute.")
SYSTEM_PRESSURE = Metric(
    "ape_system_pressure_percent",
    "gauge",
    "Time in which some (or all) tasks waited for a resource, of the last 10 s (PSI).",
    ("resource", "share"),
)
SYSTEM_NETWORK = Metric(
    "ape_system_network_bytes_total",
    "counter",
    "Bytes of the machine's own interfaces.",
    ("direction",),
)
SYSTEM_DISK_IO = Metric(
    "ape_system_disk_io_bytes_total", "counter", "Bytes of the machine's disks.", ("direction",)
)
KERNEL_USED = Metric(
    "ape_kernel_limit_used", "gauge", "The part of a kernel limit that is used.", ("limit",)
)
KERNEL_ALLOWED = Metric(
    "ape_kernel_limit_allowed", "gauge", "The value of a kernel limit.", ("limit",)
)
CONTAINER_UP = Metric(
    "ape_container_up", "gauge", "1 while the container runs, else 0.", _CONTAINER
)
CONTAINER_HEALTHY = Metric(
    "ape_container_healthy",
    "gauge",
    "0 if its health check failed, it exited with an error, or it was removed; else 1.",
    _CONTAINER,
)
CONTAINER_RESTARTS = Metric(
    "ape_container_restarts_total", "counter", "Starts after the first.", _CONTAINER
)
CONTAINER_MEMORY = Metric(
    "container_memory_working_set_bytes",
    "gauge",
    "Memory that cannot be freed at once: usage without inactive file pages.",
    _CONTAINER,
)
CONTAINER_MEMORY_LIMIT = Metric(
    "container_spec_memory_limit_bytes", "gauge", "Memory limit; 0: none.", _CONTAINER
)
CONTAINER_CPU = Metric("container_cpu_usage_seconds_total", "counter", "CPU used.", _CONTAINER)
CONTAINER_PERIODS = Metric(
    "container_cpu_cfs_periods_total", "counter", "Periods of the CPU limit.", _CONTAINER
)
CONTAINER_THROTTLED = Metric(
    "container_cpu_cfs_throttled_periods_total",
    "counter",
    "Periods in which the CPU limit was reached.",
    _CONTAINER,
)
CONTAINER_RECEIVED = Metric(
    "container_network_receive_bytes_total", "counter", "Bytes received.", _CONTAINER
)
CONTAINER_SENT = Metric(
    "container_network_transmit_bytes_total", "counter", "Bytes sent.", _CONTAINER
)
CONTAINER_READ = Metric(
    "container_fs_reads_bytes_total", "counter", "Bytes read from disks.", _CONTAINER
)
CONTAINER_WRITTEN = Metric(
    "container_fs_writes_bytes_total", "counter", "Bytes written to disks.", _CONTAINER
)
CONTAINER_OOM = Metric(
    "container_oom_events_total", "counter", "Kills for lack of memory.", _CONTAINER
)
CONTAINER_PIDS = Metric("container_threads", "gauge", "Processes and threads.", _CONTAINER)
CONTAINER_STARTED = Metric(
    "container_start_time_seconds", "gauge", "Time of its last start, in Unix time.", _CONTAINER
)
MONITOR_SAMPLE_SECONDS = Metric(
    "ape_monitor_sample_duration_seconds", "gauge", "Time that the last sample took."
)
MONITOR_AGE = Metric(
    "ape_monitor_data_age_seconds",
    "gauge",
    "Seconds by which the monitor's data is older than its interval.",
)
MONITOR_SAMPLES = Metric("ape_monitor_samples_total", "counter", "Samples taken.")
MONITOR_DOCKER_UP = Metric(
    "ape_monitor_docker_up", "gauge", "1 while Docker's event stream is open, else 0."
)
MONITOR_STREAMS_LOST = Metric(
    "ape_monitor_event_streams_lost_total", "counter", "Event streams of Docker that ended."
)
MONITOR_DESCRIPTORS = Metric("ape_monitor_open_files", "gauge", "Kernel files kept open.")
MONITOR_UNSEEN = Metric(
    "ape_monitor_unseen_containers", "gauge", "Running containers whose cgroups are not visible."
)
MONITOR_ALERTS = Metric(
    "ape_monitor_alerts", "gauge", "Open alerts of the monitor.", ("alert", "severity")
)
MONITOR_SENT = Metric(
    "ape_monitor_notifications_total", "counter", "Posts to receivers.", ("receiver", "result")
)

ALL: tuple[Metric, ...] = tuple(v for v in list(globals().values()) if isinstance(v, Metric))

SUCCESS, FAILURE = "success", "failure"
GOAL_MET = "goal_met"
# The run or the agent ended before the session did.
ABORTED = "aborted"
# Reasons of failed sessions: the values of label `reason`, with goal_met.
FAILURE_REASONS = (
    "target_error",
    "gateway_error",
    "model_error",
    # The completion ended at its limit of tokens, without a call.
    "model_truncated",
    # By the model, or by a content filter.
    "model_refused",
    # A limit of the provider that lasts longer than a completion may wait, such as a day's.
    "model_quota",
    # The conversation does not fit, even without the results of earlier steps.
    "context_full",
    "step_limit",
    "time_limit",
    "gave_up",
    ABORTED,
)
# What was wrong with a repaired call: arguments encoded twice, with text around them, with a syntax
# of Python or JavaScript, as an object in place of text, or under other keys; a body as text; the
# path without its slash, or with the target's host; the method in the path, or in lower case;
# another tool's name; a call in the text.
REPAIR_KINDS = (
    "encoded_twice",
    "text_around",
    "syntax",
    "object",
    "nested",
    "body_text",
    "path",
    "host",
    "method",
    "tool_name",
    "text_call",
)
# Of the detail of a failed session.
MAX_DETAIL_CHARS = 300
FINISH_REASONS = ("stop", "tool_calls", "length", "content_filter", "function_call", "other")
# Of reports. token: none, or a forged one; slots: of other agents than the token's; claimed: of
# agents that another process reports about; replayed: an older batch; invalid: breaks the format.
REFUSAL_REASONS = ("token", "slots", "claimed", "replayed", "invalid")
# At most in one report.
REPORT_SESSIONS, REPORT_STEPS = 100, 1000
AGENT_STATES = ("waiting", "running", "finished", "stopping")
# Results of a completion. incomplete: its stream broke, or it has neither text nor a call nor a
# refusal; cancelled: its client disconnected.
PROXY_RESULTS = ("success", "incomplete", "cancelled", "error")
# Results of a step. refused: the gateway rejected it with a 4xx. bad_call: it had no request.
STEP_RESULTS = ("ok", "target_error", "refused", "gateway_error", "bad_call")


def agent(slot: int) -> str:
    """The agent's name, stable over restarts: agent-0001."""
    return f"agent-{slot:04d}"
