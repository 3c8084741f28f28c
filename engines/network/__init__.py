"""How the servers of engines are reached, on one machine and on a cluster."""
