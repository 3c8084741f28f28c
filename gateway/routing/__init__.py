"""Which revision answers a name, where revisions are placed, and which paths are relayed."""
