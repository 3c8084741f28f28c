"""Outside tools that score a model of the gateway in an environment of their own."""
