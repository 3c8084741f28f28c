"""Print what a chat crosses inside the gateway: files, calls and hand-overs from its first byte to the answer's end.

    python bench/chat_walk.py [--list]

One plain and one streamed chat go through the gateway as in `request_cost.py`: a client's connection and two engines in
memory, no sockets. A profiler hook counts what runs: our files (of `gateway`, `registry` and `engines`), the calls of
functions that are defined in them, and the hand-overs, which are the calls whose caller is in another file of ours.
A callback through a library counts for the function of ours that called the library. The streamed answer arrives in
five reads: its head, three chunks and its end. `--list` prints the calls in their order.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[1]))

from bench.request_cost import opened_wire

ROOT: Final = Path(__file__).parents[1]
PACKAGES: Final = tuple(f"{ROOT / package}/" for package in ("gateway", "registry", "engines"))
CHUNKS: Final = 3


@dataclass(slots=True)
class Walk:
    """The calls that a hook for `sys.setprofile` saw."""

    calls: list[tuple[str, str, str]] = field(default_factory=list)
    """File of the caller, empty where nothing of ours called; file and name of the function that was called."""

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """Count a call of a function of ours; comprehensions belong to the function around them."""
        code = frame.f_code
        if event == "call" and code.co_filename.startswith(PACKAGES) and not code.co_name.endswith("comp>"):
            self.calls.append((_caller(frame.f_back), code.co_filename, code.co_qualname))

    @property
    def files(self) -> set[str]:
        """Return the files that hold a function which was called."""
        return {file for _, file, _ in self.calls}

    @property
    def hand_overs(self) -> int:
        """Return the number of calls from one of our files to another."""
        return sum(caller not in ("", file) for caller, file, _ in self.calls)


def main() -> None:
    """Walk and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    for name, walk in asyncio.run(walks()).items():
        counts = f"{len(walk.files):4} files {len(walk.calls):5} calls {walk.hand_overs:5} hand-overs"
        sys.stdout.write(f"{name:<12}{counts}\n")
        if args.list:
            show(walk)


async def walks() -> dict[str, Walk]:
    """Return the walk of each kind of chat, in a gateway that has answered both before."""
    async with opened_wire() as wire:
        chats: dict[str, Callable[[], None]] = {"plain": wire.request, "streamed": lambda: wire.stream(CHUNKS)}
        for chat in chats.values():
            chat()
        return {name: _walk_of(chat) for name, chat in chats.items()}


def show(walk: Walk) -> None:
    """Print the calls in their order; an arrow marks a hand-over."""
    for caller, file, name in walk.calls:
        mark = "  " if caller in ("", file) else "->"
        sys.stdout.write(f"    {mark} {Path(file).relative_to(ROOT)}  {name}\n")


def _walk_of(chat: Callable[[], None]) -> Walk:
    walk = Walk()
    sys.setprofile(walk.see)
    try:
        chat()
    finally:
        sys.setprofile(None)
    return walk


def _caller(frame: FrameType | None) -> str:
    """Return the file of the nearest function of ours that is under way."""
    while frame is not None and not frame.f_code.co_filename.startswith(PACKAGES):
        frame = frame.f_back
    return "" if frame is None else frame.f_code.co_filename


if __name__ == "__main__":
    main()
