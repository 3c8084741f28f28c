"""A replica keeps one engine running with the adapters that placement wants."""
