"""The agent: runs sessions with the target until it is stopped."""
