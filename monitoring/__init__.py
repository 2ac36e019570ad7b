"""The resource monitor: use of every container and of the machine, and alerts.

`python -m monitoring --help`; docs/monitor.md.
"""
