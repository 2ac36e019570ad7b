"""Docker's API for readers: GET on containers and events, nothing else."""
