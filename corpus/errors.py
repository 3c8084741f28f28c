"""Errors of this package; each message is for people."""

from __future__ import annotations


class CorpusError(Exception):
    """Something about the data, or where it comes from, that a person has to mend."""


class SourceRefused(CorpusError):
    """The place or the file that data should come from cannot be read."""


class TooManyDropped(CorpusError):
    """More rows than allowed cannot be taken over."""


class SheetRefused(CorpusError):
    """A review sheet that is not filled in, or is of another file."""
