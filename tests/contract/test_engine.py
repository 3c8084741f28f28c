"""Every kind of engine keeps the promises of the engine interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engines.catalog import build_engine
from engines.errors import (
    AdapterLoadFailed,
    AdapterNotLoaded,
    AdaptersFixed,
    EngineStartFailed,
    EngineUnreachable,
    SettingRefused,
)
from engines.settings import EngineSettings
from tests.contract.engine_host import EngineHost, wait_until
from tests.contract.kinds import FIXED, LIVE, PLACES

BEGINNINGS = {
    "base": "The capital of France is Paris.",
    "one@1": "The capital of France is Paris, the capital of France is",
    "two@1": "Your own",  # its next token has an equal, to four digits
}
"""The text of the same weights on every engine, as far as no second token is as likely."""

for_live_adapters = pytest.mark.parametrize("kind", LIVE, indirect=True)
for_fixed_adapters = pytest.mark.parametrize("kind", FIXED, indirect=True)


def test_base_and_adapters_answer_each_in_their_own_way_and_the_same_on_every_engine(
    host: EngineHost, adapters: dict[str, Path]
) -> None:
    answers = {name: host.say(model=name) for name in ("base", *adapters)}
    assert [answers[name][: len(known)] for name, known in BEGINNINGS.items()] == list(BEGINNINGS.values())
    assert answers["base"] == BEGINNINGS["base"]
    assert len(set(answers.values())) == 3
    assert host.call(host.engine.loaded_adapters()) == set(adapters)


def test_loading_twice_is_once_but_a_name_stays_with_its_path(host: EngineHost, adapters: dict[str, Path]) -> None:
    host.load("one@1", adapters["one@1"])
    with pytest.raises(AdapterLoadFailed, match="already loaded"):
        host.load("one@1", adapters["two@1"])
    assert host.call(host.engine.loaded_adapters()) == set(adapters)


def test_a_folder_that_is_no_adapter_is_refused_with_the_reason(host: EngineHost, tmp_path: Path) -> None:
    for folder, why in ((tmp_path / "none", "does not exist"), (tmp_path, "adapter_config")):
        with pytest.raises(AdapterLoadFailed, match=why):
            host.load("none@1", folder)
    with pytest.raises(AdapterNotLoaded):
        host.call(host.engine.unload_adapter("none@1"))


@for_live_adapters
def test_an_adapter_comes_and_goes_while_serving(host: EngineHost, adapters: dict[str, Path]) -> None:
    host.load("two@2", adapters["two@1"])
    assert host.say(model="two@2") == host.say(model="two@1")
    host.call(host.engine.unload_adapter("two@2"))
    assert "two@2" not in host.call(host.engine.loaded_adapters())
    with pytest.raises(AdapterNotLoaded):
        host.call(host.engine.unload_adapter("two@2"))
    host.load("two@2", adapters["one@1"])
    assert host.say(model="two@2") == host.say(model="one@1")
    host.call(host.engine.unload_adapter("two@2"))


@for_live_adapters
def test_a_name_that_still_answers_after_unloading_is_not_hidden(host: EngineHost, adapters: dict[str, Path]) -> None:
    host.load("back@1", adapters["one@1"])
    host.call(host.engine.unload_adapter("back@1"))
    answers = host.http.post("/v1/chat/completions", json=host.body(model="back@1")).status_code == 200
    assert ("back@1" in host.call(host.engine.loaded_adapters())) is answers
    if answers:
        host.call(host.engine.unload_adapter("back@1"))
    assert host.call(host.engine.loaded_adapters()) == set(adapters)


@for_live_adapters
def test_an_adapter_too_many_is_refused(host: EngineHost, adapters: dict[str, Path]) -> None:
    more = [f"more@{number}" for number in range(len(adapters), PLACES)]
    for name in more:
        host.load(name, adapters["one@1"])
    with pytest.raises(AdapterLoadFailed, match=f"all {PLACES} places"):
        host.load("much@1", adapters["one@1"])
    for name in more:
        host.call(host.engine.unload_adapter(name))
    assert host.call(host.engine.loaded_adapters()) == set(adapters)


@for_live_adapters
def test_an_adapter_that_the_server_cannot_read_is_refused_in_its_words(host: EngineHost, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 8, "target_modules": ["q_proj"]}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"these are no tensors")
    with pytest.raises(AdapterLoadFailed, match="broken@1"):
        host.load("broken@1", tmp_path)
    assert "broken@1" not in host.call(host.engine.loaded_adapters())
    assert host.say() == "The capital of France is Paris."


@for_live_adapters
def test_an_unloaded_adapter_finishes_what_it_began(host: EngineHost, adapters: dict[str, Path]) -> None:
    host.load("leaving@1", adapters["one@1"])
    body = host.body(model="leaving@1", max_tokens=40, ignore_eos=True, stream=True)
    with ThreadPoolExecutor(1) as pool, host.http.stream("POST", "/v1/chat/completions", json=body) as answer:
        lines = answer.iter_lines()
        next(lines)
        unloading = pool.submit(host.call, host.engine.unload_adapter("leaving@1"))
        wait_until(lambda: "leaving@1" not in host.call(host.engine.loaded_adapters()))
        assert not unloading.done()
        assert [line for line in lines if line][-1] == "data: [DONE]"
        unloading.result(30)


@for_fixed_adapters
def test_adapters_that_are_fixed_at_launch_stay_as_they_are(host: EngineHost, adapters: dict[str, Path]) -> None:
    with pytest.raises(AdaptersFixed, match="started with"):
        host.load("two@2", adapters["two@1"])
    with pytest.raises(AdaptersFixed, match="started with"):
        host.call(host.engine.unload_adapter("two@1"))
    assert host.call(host.engine.loaded_adapters()) == set(adapters)


def test_a_started_engine_is_healthy(host: EngineHost) -> None:
    assert host.call(host.engine.is_healthy())
    assert host.engine.traits.max_adapters == PLACES


def test_an_idle_engine_has_no_load_and_a_client_that_leaves_leaves_none(host: EngineHost) -> None:
    wait_until(lambda: host.busy().running == 0)
    body = host.body(max_tokens=400, ignore_eos=True)
    with host.http.stream("POST", "/v1/chat/completions", json=body | {"stream": True}) as answer:
        lines = answer.iter_lines()
        next(lines)
        wait_until(lambda: host.busy().running == 1)
        assert host.busy().waiting == 0
    wait_until(lambda: host.busy().running == 0)
    with pytest.raises(Exception, match="timed out"):
        host.http.post("/v1/chat/completions", json=body, timeout=2.0)
    wait_until(lambda: host.busy().running == 0)


def test_an_engine_without_a_model_says_so(
    settings_of: Callable[..., EngineSettings], kind: str, tmp_path: Path
) -> None:
    with pytest.raises((EngineStartFailed, SettingRefused), match=str(tmp_path)):
        asyncio.run(build_engine(settings_of(base_path=tmp_path)).start())


def test_an_engine_that_was_not_started_answers_nothing(settings_of: Callable[..., EngineSettings]) -> None:
    async def ask() -> None:
        engine = build_engine(settings_of())
        assert not await engine.is_healthy()
        for question in (engine.load(), engine.loaded_adapters(), engine.wait_exit()):
            with pytest.raises(EngineUnreachable):
                await question
        assert engine.last_log_lines() == ""
        await engine.stop(0.0)

    asyncio.run(ask())
