"""The resource monitor: what every container and the machine use, and what is wrong.

`python -m monitoring --help`; docs/monitor.md.
"""
