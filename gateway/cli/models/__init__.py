"""Commands about base models, and about every name that a request may carry."""
