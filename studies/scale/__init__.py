"""What a large fleet does to the registry, the route tables and the controller, measured on a real PostgreSQL."""
