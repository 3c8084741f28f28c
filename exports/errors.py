"""Errors of exporting."""

from __future__ import annotations


class ExportError(Exception):
    """A base class; the message is for whoever asked for the export."""


class NotExportable(ExportError):
    """The model cannot be exported in this form; the message names the reason and what would be possible."""


class TargetRefused(ExportError):
    """The place to write to cannot be taken."""


class HubRefused(ExportError):
    """The hub did not take the upload, or has other bytes afterwards."""
