"""What runs and how it does: Docker, the services' metrics, Prometheus, Loki, and the report."""
