"""Adapters in the weights of their base models."""
