"""Thousands of simulated rollouts, to see how the judge does; nothing of it runs in production."""
