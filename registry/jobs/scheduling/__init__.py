"""Which job a worker gets next: order, dependencies, room on devices, giving way, and when a job's turn comes."""
