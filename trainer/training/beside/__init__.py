"""Jobs of one process that train beside each other on one base model."""
