"""Docker's API for readers: GET on the stack's containers and their events, nothing else."""
