"""APE's infrastructure: settings -> plan -> workloads -> runtime -> resources.

Data flows one way. `settings`, `tiers`, `plan` and `workload` are plain data and pure functions;
`runtimes` and `components` only declare Pulumi resources; `preflight`, `summary` and `cli` are
the edges that look at a machine or talk to Docker.
"""
