"""The error of a command that the user typed."""

from __future__ import annotations


class CommandFailed(Exception):
    """The command could not be done; the message tells the user what to do."""
