"""Simulation of a hundred replicas, which compares policies of balancing."""
