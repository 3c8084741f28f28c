"""What the hot path asks of a client's connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Client(Protocol):
    """One request's turn on its client's connection."""

    @property
    def write(self) -> Callable[[bytes], None]:
        """Sends bytes; never blocks, never raises."""
        ...

    @property
    def takes_chunks(self) -> bool:
        """It knows chunked bodies (HTTP/1.1)."""
        ...

    def head_lines(self) -> bytes:
        """Header lines that every answer carries, `date` among them."""
        ...

    def keeps_alive(self) -> bool:
        """Whether another request may follow on this connection, decided when the answer's head is written."""
        ...

    def done(self) -> None:
        """The answer is whole."""
        ...

    def cut(self) -> None:
        """The answer cannot be made whole: what was written goes out, then the connection ends."""
        ...

    def abort(self) -> None:
        """The client does not read: the connection ends, and what it did not read is thrown away."""
        ...
