"""Configs, rules and dashboards of the observability stack, as plain data."""
