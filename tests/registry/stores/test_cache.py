"""A machine's copies: bounded, least lately used first to go, and never one that a living process has loaded."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Event

import pytest

from registry.errors import StorageFull
from registry.stores.cache import RECENT_S, ArtifactCache
from registry.stores.cache_figures import CacheFigures, read_figures

SIZE = 1000


class Clock:
    def __init__(self) -> None:
        self.now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cache(tmp_path: Path, clock: Clock) -> ArtifactCache:
    return ArtifactCache(tmp_path / "cache", 3 * SIZE, clock)


def digest_of(letter: str) -> str:
    return sha256(letter.encode() * SIZE).hexdigest()


def read(cache: ArtifactCache, letter: str) -> Path:
    """Read the file of *letter*, which is fetched where it is not in the cache."""

    def fetch(target: Path) -> None:
        target.write_bytes(letter.encode() * SIZE)

    return cache.get("files", digest_of(letter), lambda: SIZE, fetch)


def there(cache: ArtifactCache) -> str:
    return "".join(letter for letter in "abcdefg" if (cache.root / "files" / digest_of(letter)).exists())


def test_the_copy_that_was_used_least_lately_goes(cache: ArtifactCache, clock: Clock) -> None:
    for letter in "abc":
        read(cache, letter)
        clock.now += 1
    read(cache, "a")
    clock.now += 2 * RECENT_S
    read(cache, "d")
    assert there(cache) == "acd"
    assert cache.used_bytes() == 3 * SIZE
    assert read_figures(cache.root) == CacheFigures(
        hits=1, misses=4, fetched_bytes=4 * SIZE, evictions=1, evicted_bytes=SIZE
    )


def test_what_was_just_handed_out_stays_and_a_full_cache_names_the_setting(cache: ArtifactCache) -> None:
    for letter in "abc":
        read(cache, letter)
    with pytest.raises(StorageFull, match=r"3000 of its 3000 bytes .* artifact_cache_bytes"):
        read(cache, "d")
    assert there(cache) == "abc"


def test_what_is_held_stays_until_it_was_released_as_often(cache: ArtifactCache, clock: Clock) -> None:
    for letter in "abc":
        read(cache, letter)
        cache.hold(digest_of(letter))
    cache.hold(digest_of("a"))
    clock.now += 2 * RECENT_S
    cache.release(digest_of("a"))
    with pytest.raises(StorageFull):
        read(cache, "d")
    cache.release(digest_of("b"))
    read(cache, "d")
    assert there(cache) == "acd"
    cache.release(digest_of("b"))  # once too often


HOLDER = """
import sys, time
from pathlib import Path
from registry.stores.cache import ArtifactCache
cache = ArtifactCache(Path(sys.argv[1]), 3000, time.time)
cache.hold(sys.argv[2])
print("held", flush=True)
sys.stdin.read()
"""


def test_eviction_spares_what_another_process_holds_until_that_process_is_killed(
    cache: ArtifactCache, clock: Clock
) -> None:
    for letter in "abc":
        read(cache, letter)
        clock.now += 1
    clock.now += 2 * RECENT_S
    command = [sys.executable, "-c", HOLDER, str(cache.root), digest_of("a")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[3]
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        read(cache, "d")
        assert there(cache) == "acd"
        holder.kill()
    clock.now += 2 * RECENT_S
    read(cache, "e")
    assert there(cache) == "cde"


def test_readers_at_once_fetch_a_copy_once(cache: ArtifactCache) -> None:
    fetched, begun = [], Event()

    def fetch(target: Path) -> None:
        fetched.append(target)
        begun.wait(10)
        target.write_bytes(b"a" * SIZE)

    def get(_: int) -> Path:
        return cache.get("files", digest_of("a"), lambda: SIZE, fetch)

    with ThreadPoolExecutor(4) as pool:
        waiting = [pool.submit(get, number) for number in range(4)]
        begun.set()
        assert {each.result().name for each in waiting} == {digest_of("a")}
    assert len(fetched) == 1


def test_a_copy_on_its_way_counts_and_is_not_evicted(cache: ArtifactCache, clock: Clock) -> None:
    def fetch(target: Path) -> None:
        clock.now += 2 * RECENT_S
        for letter in "bcd":
            clock.now += 1
            read(cache, letter)
            clock.now += 2 * RECENT_S
        target.write_bytes(b"a" * SIZE)

    cache.get("files", digest_of("a"), lambda: SIZE, fetch)
    assert there(cache) == "acd"


def test_a_failed_fetch_leaves_no_copy_and_its_remains_make_room(cache: ArtifactCache, clock: Clock) -> None:
    def fail(target: Path) -> None:
        target.write_bytes(b"a")
        raise ConnectionError

    with pytest.raises(ConnectionError):
        cache.get("files", digest_of("a"), lambda: 2 * SIZE, fail)
    clock.now += 2 * RECENT_S
    for letter in "bcd":
        read(cache, letter)
    assert there(cache) == "bcd"
    assert list((cache.root / "incoming").iterdir()) == []


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_a_damaged_copy_is_fetched_again(cache: ArtifactCache, damage: str) -> None:
    path = read(cache, "a")
    if damage == "changed":
        path.write_bytes(b"b")
    else:
        os.unlink(path)
    assert read(cache, "a").read_bytes() == b"a" * SIZE
