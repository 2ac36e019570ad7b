"""The gateway: the service through which agents reach the target."""
