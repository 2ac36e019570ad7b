"""What the observability stack is told: configs, rules, dashboards. Plain data; no Pulumi, no I/O.

`declare` alone knows Pulumi.
"""
