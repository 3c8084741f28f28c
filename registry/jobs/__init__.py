"""Jobs of the trainer: states, leases, and their rows."""
