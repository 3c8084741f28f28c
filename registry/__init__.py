"""The database and the artifacts that gateway and trainer share; this package imports neither of them."""
