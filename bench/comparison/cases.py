"""The cases of the comparison: the requests that every gateway gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """So many clients in a closed loop that ask for the same."""

    name: str
    clients: int
    tokens: int
    is_stream: bool
    pace_us: int = 0
    """Before every chunk; 0 is as fast as it goes."""
    prompt_bytes: int = 256
    seconds: float = 2.0

    @property
    def is_paced(self) -> bool:
        """Whether the engine, not the gateway, sets the pace of the chunks."""
        return self.pace_us > 0

    @property
    def words(self) -> list[str]:
        """Return the options of the load generator."""
        options = ["--clients", str(self.clients), "--tokens", str(self.tokens), "--pace-us", str(self.pace_us)]
        return [*options, "--prompt-bytes", str(self.prompt_bytes), *(["--stream"] if self.is_stream else [])]


def _stream(clients: int, pace_us: int, seconds: float) -> Case:
    speed = "10 ms" if pace_us else "full speed"
    return Case(
        name=f"{clients} stream{'s' if clients > 1 else ''}, {speed}",
        clients=clients,
        tokens=64,
        is_stream=True,
        pace_us=pace_us,
        seconds=seconds,
    )


CASES: Final = (
    Case(name="16 clients", clients=16, tokens=16, is_stream=False),
    Case(name="64 clients", clients=64, tokens=16, is_stream=False),
    Case(name="16 clients, 32 KB prompt", clients=16, tokens=16, is_stream=False, prompt_bytes=32 * 1024),
    _stream(1, 0, 1.5),
    _stream(16, 0, 2.0),
    _stream(64, 0, 2.0),
    _stream(1, 10_000, 2.0),
    _stream(16, 10_000, 2.0),
    _stream(64, 10_000, 2.0),
)
