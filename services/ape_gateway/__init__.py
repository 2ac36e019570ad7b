"""The gateway: the only way from the agents to the target."""
