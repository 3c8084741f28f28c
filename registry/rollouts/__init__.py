"""Rollouts, what is counted of their answers, and what people say of them."""
