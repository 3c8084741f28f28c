"""Stored answers of `POST /v1/responses`, which later requests go on from."""
