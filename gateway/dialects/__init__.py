"""Forms of requests and answers that are translated to those of another path, and back. Pure."""
