"""Runs: load tests that end with a result; their settings, measurements, files and pages."""
