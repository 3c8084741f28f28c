"""Training data as tokens, and the prompts of fingerprints."""
