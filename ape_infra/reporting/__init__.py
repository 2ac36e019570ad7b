"""The state of a stack and of a test: Docker, metrics, Prometheus, Loki, and the run report."""
