"""Forms in which data sets are published, and their rows as our training lines."""
