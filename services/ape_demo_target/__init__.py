"""The demo target: a small shop in memory."""
