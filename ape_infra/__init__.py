"""APE's infrastructure, a room per subject; each room imports only those above it.

config        settings: groups, rules, parsing, files that they name
planning      what follows from the settings, as plain data
observability configs, rules and dashboards, as plain data
sdk_patches   changes to the Pulumi SDK, bound to its version
program       the Pulumi program: workloads, components, runtimes
checks        the machine, the daemon and the target, before anything is changed
automation    Pulumi's engine, the stack's lock
reporting     what runs, measured
rollout       levels, checks of a level, the controller
cli           `ape-load`, one command a file
"""
