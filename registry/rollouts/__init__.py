"""Rollouts, the counts of their answers, and the ratings of people."""
