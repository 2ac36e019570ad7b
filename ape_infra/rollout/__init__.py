"""Scaling in validated steps: levels, readings, gates and the walk over them.

`levels`, `readings`, `gates` and `estimate` are plain data and pure functions; `walk` drives an
engine and a probe that it is handed; `probe` reads the machine.
"""
