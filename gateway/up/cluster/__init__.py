"""Lorry on a Ray cluster that exists: what it demands, what each node decides, and `lorry up --ray-address`."""
