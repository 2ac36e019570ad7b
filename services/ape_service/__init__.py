"""What the services share at run time: logs, tracing, health, retries, limits, metrics, HTTP.

Only `prom` and `web` need aiohttp or prometheus_client.
"""
