"""Signs of life of processes that share the registry."""
