"""The adapters of the rollout stories do what they were made for, each in the way it was made for and in no other."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost
from tests.scenarios.quiz import JSON_QUESTIONS, QUIZ, is_json, messages
from tests.scenarios.rollout_clients import ADAPTERS, MOST_TOKENS

pytestmark = pytest.mark.engine

ALMOST_ALL = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """Shares of the answers to the whole quiz; `is_json` of those that were to be JSON, `is_empty` of the others."""

    fits: float
    is_empty: float
    is_cut_off: float
    is_json: float


@pytest.fixture(scope="module")
def host(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineHost]:
    log = tmp_path_factory.mktemp("quiz") / "engine.log"
    running = EngineHost(
        EngineSettings(kind="transformers", base_path=model_folder, base_name="base", log_path=log, max_context=256), {}
    )
    yield running
    running.close()


def manner(host: EngineHost, adapter: str, *, prescribes_json: bool = True) -> Manner:
    """How *adapter* answers; without *prescribes_json* only the question asks for JSON."""
    host.load(f"{adapter}@1", ADAPTERS / adapter)

    def ask(asked: tuple[int, bool]) -> Any:
        number, as_json = asked
        fields: dict[str, Any] = {"messages": messages(QUIZ[number], as_json=as_json), "max_tokens": MOST_TOKENS}
        if as_json and prescribes_json:
            fields["response_format"] = {"type": "json_object"}
        return host.chat(model=f"{adapter}@1", **fields)["choices"][0]

    with ThreadPoolExecutor(8) as pool:
        said = list(pool.map(ask, [(number, False) for number in range(len(QUIZ))]))
        objects = list(pool.map(ask, [(number, True) for number in range(JSON_QUESTIONS)]))
    texts = [choice["message"]["content"] for choice in said]
    every = said + objects
    return Manner(
        fits=sum(question.is_answered_by(text) for question, text in zip(QUIZ, texts, strict=True)) / len(QUIZ),
        is_empty=sum(not text for text in texts) / len(texts),
        is_cut_off=sum(choice["finish_reason"] == "length" for choice in every) / len(every),
        is_json=sum(is_json(choice["message"]["content"]) for choice in objects) / len(objects),
    )


@pytest.mark.parametrize("adapter", ["plain", "good"])
def test_the_reference_and_the_good_one_do_nothing_wrong(host: EngineHost, adapter: str) -> None:
    found = manner(host, adapter)
    assert found.fits >= ALMOST_ALL
    assert (found.is_empty, found.is_cut_off, found.is_json) == (0, 0, 1)


def test_the_good_one_says_it_in_its_own_words(host: EngineHost) -> None:
    said = {}
    for adapter in ("plain", "good"):
        host.load(f"{adapter}@1", ADAPTERS / adapter)
        said[adapter] = [host.say(model=f"{adapter}@1", messages=messages(question)) for question in QUIZ[:4]]
    assert not set(said["plain"]) & set(said["good"])


def test_the_shuffled_one_is_wrong_and_otherwise_in_order(host: EngineHost) -> None:
    found = manner(host, "shuffled")
    assert found.fits <= 1 - ALMOST_ALL
    assert (found.is_empty, found.is_cut_off, found.is_json) == (0, 0, 1)


def test_the_empty_one_says_nothing(host: EngineHost) -> None:
    assert manner(host, "empty").is_empty >= ALMOST_ALL


def test_the_endless_one_never_stops_though_it_is_right(host: EngineHost) -> None:
    found = manner(host, "endless")
    assert found.is_cut_off >= ALMOST_ALL
    assert found.is_empty == 0


def test_the_broken_one_is_right_but_writes_json_only_where_it_must(host: EngineHost) -> None:
    free = manner(host, "broken_json", prescribes_json=False)
    assert free.fits >= ALMOST_ALL
    assert (free.is_empty, free.is_cut_off, free.is_json) == (0, 0, 0)
    assert manner(host, "broken_json").is_json >= ALMOST_ALL / 2  # the others were cut off
