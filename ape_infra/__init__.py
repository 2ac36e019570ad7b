"""APE's infrastructure, a room per subject; each room imports only those above it.

planning      the plan of a fleet: tier, networks, memory, CPU; names and sources of services
config        settings: groups, rules, parsing, files that they name
observability configs, rules and dashboards, as plain data
checks        the machine, the daemon and the target, before anything is changed
sdk_patches   changes to the Pulumi SDK, bound to its version
program       the Pulumi program: workloads, components, runtimes
automation    Pulumi's engine, the stack's lock
reporting     the measured state of a stack; metrics, logs and the run report
rollout       levels, checks of a level, the controller
runs          load tests that end with a result: summary, files, pages, comparison
cli           `ape-load`, one command a file
"""
