"""The hot path: inference requests from the client's socket to the engine's and back."""
