"""A trainer on a Ray cluster: each job in an actor, on the node that has room for it."""
