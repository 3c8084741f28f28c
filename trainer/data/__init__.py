"""Chats as tokens, and the prompts of fingerprints."""
