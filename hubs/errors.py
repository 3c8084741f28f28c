"""Errors of this package; each message is for people and names what to do."""

from __future__ import annotations


class HubError(Exception):
    """A hub, or what lies on it, that a person has to see to."""


class HubRefused(HubError):
    """The hub has no such thing, or gives it to others only."""


class UnknownRepository(HubRefused):
    """The hub has no repository of this name, or shows it to others only."""


class HubUnreachable(HubError):
    """The hub does not answer, or its connection was lost for good; what was received is kept."""


class NotPullable(HubError):
    """The repository is no model that Lorry can serve."""


class FileAltered(HubError):
    """A file does not have the hash that the hub names."""


class DiskRefused(HubError):
    """The disk has no room for the files, or takes none of them."""
