"""What the infrastructure and the services must agree on.

The metrics, the labels of containers, the settings that a container is given, the gateway's
config, the success conditions and the recording format. Both sides import it, so it needs neither
Pulumi nor a web framework.
"""

# The version of the project: pyproject.toml reads it here, and so do the services.
VERSION = "0.1.0"
