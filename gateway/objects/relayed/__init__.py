"""Bodies and answers of the relayed paths, for their description: engines check and make them, not the gateway."""
