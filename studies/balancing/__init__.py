"""A hundred simulated replicas, to compare policies of balancing."""
