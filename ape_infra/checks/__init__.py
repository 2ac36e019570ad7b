"""Checks of settings, machine, daemon and target. They only read, and never run in a preview.

A module has the checks of one subject; `preflight` selects those of a command and runs them.
"""
