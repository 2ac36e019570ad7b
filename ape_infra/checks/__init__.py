"""Checks of the machine, the daemon and the target before anything is changed. They only read."""
