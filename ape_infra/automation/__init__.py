"""Pulumi's engine over the Automation API, the lock of a stack, and what a pipeline needs."""
