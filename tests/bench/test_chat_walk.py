"""A chat's way through the gateway stays short enough to be followed by a reader."""

from __future__ import annotations

import asyncio

from bench.chat_walk import walks


def test_a_chat_crosses_few_files_and_changes_between_them_seldom() -> None:
    found = asyncio.run(walks())
    assert len(found["plain"].files) <= 12
    assert found["plain"].hand_overs <= 50
    assert found["streamed"].hand_overs <= 60
