"""The judge of a rollout. Pure."""
