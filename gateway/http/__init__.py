"""What every answer of the FastAPI application passes: request ids, authentication, errors, health."""
