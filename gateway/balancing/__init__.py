"""Which replica answers, who waits, and which replicas are passed over. Pure."""
