"""Check, normalise and publish a folder of weights as an immutable revision."""
