"""The database and the artifacts that gateway and trainer share; it knows neither of them."""
