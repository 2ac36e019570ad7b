"""What the services share. Only `prom` and `web` need aiohttp or prometheus_client."""
