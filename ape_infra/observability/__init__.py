"""What the observability stack is told: configs, rules, dashboards, as plain data."""
