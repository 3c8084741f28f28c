"""Gateways of one machine find each other, whether living, dead or silent."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path

from gateway.telemetry.siblings import Figures, Siblings

PROGRAM = """
import asyncio, sys
from pathlib import Path
from gateway.telemetry.siblings import Siblings
async def own():
    return "from a child"
async def run():
    await Siblings(Path(sys.argv[1]), sys.argv[2], own, 5.0).start()
    print("listening", flush=True)
    await asyncio.Event().wait()
asyncio.run(run())
"""
TIMEOUT_S = 60.0


def run(story: Coroutine[None, None, None]) -> None:
    asyncio.run(asyncio.wait_for(story, 2 * TIMEOUT_S))


def saying(text: str) -> Callable[[], Coroutine[None, None, str]]:
    async def own() -> str:
        return text

    return own


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@contextmanager
def child(folder: Path, name: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that answers by this name."""
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(folder), name], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"listening\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_whoever_is_asked_answers_for_all(tmp_path: Path) -> None:
    folder = tmp_path / ("deep" * 30) / "gateways"  # the address of a socket has 107 bytes at most

    async def story() -> None:
        with child(folder, "host-gateway-c"):
            one = Siblings(folder, "host-gateway-a", saying("one"), TIMEOUT_S)
            two = Siblings(folder, "host-gateway-b", saying("two"), TIMEOUT_S)
            for sibling in (one, two):
                await sibling.start()
            whole = {"host-gateway-a": "one", "host-gateway-b": "two", "host-gateway-c": "from a child"}
            assert await one.figures() == await two.figures() == Figures(texts=whole)
            await two.aclose()
            del whole["host-gateway-b"]
            assert await one.figures() == Figures(texts=whole)
            await one.aclose()

    run(story())


def test_a_killed_process_is_forgotten_and_its_file_removed(tmp_path: Path) -> None:
    async def story() -> None:
        with child(tmp_path, "host-gateway-b") as other:
            other.kill()
            other.wait()
        assert (tmp_path / "host-gateway-b").exists()
        one = Siblings(tmp_path, "host-gateway-a", saying("one"), TIMEOUT_S)
        await one.start()
        assert await one.figures() == Figures(texts={"host-gateway-a": "one"})
        assert names_in(tmp_path) == ["host-gateway-a"]
        await one.aclose()
        assert names_in(tmp_path) == []

    run(story())


def test_a_process_that_hangs_is_told_of_and_holds_nobody_up(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as mute:
        mute.bind(str(tmp_path / "host-gateway-b"))
        mute.listen()

        async def story() -> None:
            one = Siblings(tmp_path, "host-gateway-a", saying("one"), 0.1)
            assert await one.figures() == Figures(texts={"host-gateway-a": "one"}, silent=1)

        run(story())


def test_another_machine_in_a_shared_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere-gateway-b").touch()

    async def story() -> None:
        one = Siblings(tmp_path, "host-gateway-a", saying("one"), TIMEOUT_S)
        assert await one.figures() == Figures(texts={"host-gateway-a": "one"})

    run(story())
    assert (tmp_path / "elsewhere-gateway-b").exists()


def test_without_a_folder_a_gateway_is_alone() -> None:
    async def story() -> None:
        alone = Siblings(None, "host-gateway-a", saying("one"), TIMEOUT_S)
        await alone.start()
        assert await alone.figures() == Figures(texts={"host-gateway-a": "one"})
        await alone.aclose()

    run(story())
