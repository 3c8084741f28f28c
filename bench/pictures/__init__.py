"""Pictures for the docs, made from real runs."""
