"""The inference proxy: an OpenAI-compatible front of one model."""
