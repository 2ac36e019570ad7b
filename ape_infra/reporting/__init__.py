"""The state of a stack and of a test: Docker, metrics, Prometheus, logs, and the run report."""
