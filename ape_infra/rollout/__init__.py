"""Rollouts: levels, readings, checks, and the controller.

`levels`, `readings`, `level_checks` and `estimate` are plain data and pure functions. `controller`
drives the engine and the probe that it is given. `probe` reads Docker, the services and the host.
"""
