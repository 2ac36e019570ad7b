"""A stand-in for the pulumi-docker 5.2.0 resource plugin, on the Docker SDK for Python."""

VERSION = "5.2.0"
