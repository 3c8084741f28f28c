"""Thousands of simulated rollouts that measure how often the judge is wrong and how fast it is right."""
