"""The inference proxy: an OpenAI-compatible API of one model."""
