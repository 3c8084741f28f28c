"""The device that a worker trains on, and what the registry has of it."""
