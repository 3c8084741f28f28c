"""The layers around the endpoints of the FastAPI application: request ids, authentication, errors, health."""
