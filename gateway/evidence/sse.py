"""Server-sent events, read from the bytes of a stream."""

from __future__ import annotations


class EventReader:
    """Finds the `data` of events however the bytes of a stream are cut (HTML Living Standard, 9.2.6)."""

    def __init__(self) -> None:
        self._rest = b""
        self._lines: list[bytes] = []

    def feed(self, chunk: bytes) -> list[bytes]:
        """Add *chunk*, and return the data of each event that it completes."""
        lines = (self._rest + chunk).splitlines(keepends=True)
        # a carriage return at the very end may be the first half of a line end
        self._rest = lines.pop() if lines and not lines[-1].endswith(b"\n") else b""
        events = []
        for line in lines:
            content = line.rstrip(b"\r\n")
            if content.startswith(b"data:"):
                self._lines.append(content[5:].removeprefix(b" "))
            elif not content and self._lines:
                events.append(b"\n".join(self._lines))
                self._lines = []
        return events
