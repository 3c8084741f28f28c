"""Replays of fingerprints through a server, and the verdict on them."""
