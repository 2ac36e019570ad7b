"""What follows from the settings, as plain data: tiers, shards, limits, networks, services."""
