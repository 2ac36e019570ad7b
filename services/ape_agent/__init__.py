"""The agent: holds sessions with the target until it is stopped."""
