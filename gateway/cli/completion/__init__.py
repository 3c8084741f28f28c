"""Completion of command lines by a shell: its script, and the names that the gateway lists."""
