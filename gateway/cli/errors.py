"""The error of a command that the user typed."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command could not be done; the message has what to do."""
