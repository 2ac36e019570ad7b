"""How a run has ended: its state, and the exit code of the command."""

from __future__ import annotations

from collections.abc import Collection

from ape_infra.runs.summary import State, ThresholdResult

EXIT_PASSED, EXIT_INCOMPLETE, EXIT_THRESHOLD, EXIT_ABORTED, EXIT_STOPPED = 0, 1, 5, 6, 130
# Reasons for which a run has ended.
PLANNED, USERS = "planned", "users"
STOPPED, ABORTED, BUDGET = "stopped", "aborted", "budget"
LEASE, GONE, REPLACED, ELSEWHERE = "lease", "gone", "replaced", "elsewhere"
NOTES = {
    USERS: "The rows of users were used up; the run ended then, as its settings say.",
    BUDGET: "The model's spend limit is used up; the run ended then.",
    LEASE: "The gateway ended the run, because this command had been silent for too long.",
    GONE: "The gateway stopped answering; the results are of the time until then.",
    REPLACED: "The gateway lost the run and did not take it again; the results are until then.",
    ELSEWHERE: "The run was ended by another command; the results are of the time until then.",
}


def verdict(reason: str, thresholds: Collection[ThresholdResult]) -> tuple[State, int]:
    """Return the state and the exit code. A run that is not at its planned end never passes."""
    if reason == STOPPED:
        return "stopped", EXIT_STOPPED
    if reason == ABORTED:
        return "aborted", EXIT_ABORTED
    failed = any(not threshold.passed for threshold in thresholds)
    if reason in (PLANNED, USERS):
        return ("failed", EXIT_THRESHOLD) if failed else ("passed", EXIT_PASSED)
    return "partial", EXIT_THRESHOLD if failed else EXIT_INCOMPLETE
