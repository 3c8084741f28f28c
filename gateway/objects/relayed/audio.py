"""`POST /v1/audio/transcriptions`: speech as text."""

from __future__ import annotations

from typing import Any

from gateway.objects.relayed.described import Relayed


class Transcription(Relayed):
    """The text of a recording."""

    text: str
    usage: dict[str, Any] | None = None


class TranscriptionEvent(Relayed):
    """The data of an event of a streamed transcription."""

    type: str | None = None
    delta: str | None = None
    text: str | None = None


TRANSCRIPTION_FORM: dict[str, Any] = {
    "type": "object",
    "title": "TranscriptionForm",
    "required": ["file", "model"],
    "properties": {
        "file": {"type": "string", "format": "binary", "description": "The recording."},
        "model": {"type": "string", "description": "Name of a model that takes speech."},
        "language": {"type": "string"},
        "prompt": {"type": "string"},
        "response_format": {"type": "string"},
        "temperature": {"type": "number"},
        "stream": {"type": "boolean"},
    },
}
"""Schema of the form; pydantic has no type for the parts of one."""
