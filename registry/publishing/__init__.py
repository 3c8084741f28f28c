"""From a folder of weights to an immutable revision."""
