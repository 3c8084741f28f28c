"""Probes come from the data and from a neutral list, show the adapter's effect, and exist for any data."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
from peft import PeftModel

from registry.contracts.fingerprint import LEAST_PROBES, TOKENS, FingerprintFile
from registry.contracts.training_formats import CHATS_OR_TEXTS
from tests.engines.random_adapter import write_adapter
from trainer.data.dataset import ChatEncoder
from trainer.data.probes import ProbePrompts, neutral_prompts, training_prompts
from trainer.errors import JobFailed
from trainer.training.base_model import load_base
from trainer.training.fingerprint import LONGEST_PROMPT, NEUTRAL_PROBES, PROBES, record_fingerprint

SHORT = [[{"role": "user", "content": f"q{at}"}] for at in range(4)]
LONG = [[{"role": "user", "content": "q" * LONGEST_PROMPT}]] * 4


@pytest.fixture
def model(tiny_base: Path, tmp_path: Path) -> PeftModel:
    adapter = write_adapter(tmp_path / "adapter", tiny_base, seed=1, rank=4, strength=0.3)
    return PeftModel.from_pretrained(load_base(tiny_base), adapter)


@pytest.fixture
def encoder(tiny_base: Path) -> ChatEncoder:
    return ChatEncoder(tiny_base)


def record(model: PeftModel, encoder: ChatEncoder, trained: list[list[dict[str, str]]]) -> FingerprintFile:
    return record_fingerprint(model, encoder, ProbePrompts(trained=trained, neutral=neutral_prompts(7)), "0" * 64)


def test_probes_are_of_both_kinds_and_the_same_each_time(model: PeftModel, encoder: ChatEncoder) -> None:
    model.train()
    fingerprint = record(model, encoder, SHORT)
    assert model.training, "as it was found"
    asked = [probe.messages[0]["content"] for probe in fingerprint.probes]
    assert len(asked) == PROBES
    assert sum(text.startswith("q") for text in asked) == PROBES - NEUTRAL_PROBES
    for probe in fingerprint.probes:
        assert probe.prompt_ids == encoder.open_answer(probe.messages)
        assert len(probe.tokens) <= TOKENS
        assert all(token.gap >= 0 and token.logprob <= 0 for token in probe.tokens)
        assert not {token.id for token in probe.tokens} & encoder.end_ids
    assert record(model, encoder, SHORT) == fingerprint


def test_data_of_long_prompts_is_made_up_for(model: PeftModel, encoder: ChatEncoder) -> None:
    fingerprint = record(model, encoder, LONG)
    assert len(fingerprint.probes) >= LEAST_PROBES
    assert max(len(probe.prompt_ids) for probe in fingerprint.probes) <= LONGEST_PROMPT


def test_a_probe_ends_before_a_row_of_the_vocabulary_without_a_token(model: PeftModel, encoder: ChatEncoder) -> None:
    first = record(model, encoder, SHORT)
    favourite, _ = Counter(token.id for probe in first.probes for token in probe.tokens[1:]).most_common(1)[0]
    base = model.get_base_model()
    padded = base.config.vocab_size
    base.resize_token_embeddings(padded + 8, mean_resizing=False)
    head = base.get_output_embeddings().weight
    with torch.no_grad():
        head[padded:] = 0.0
        head[padded] = 2.0 * head[favourite]
    fingerprint = record(model, encoder, SHORT)
    ids = [token.id for probe in fingerprint.probes for token in probe.tokens]
    assert max(ids) < padded
    assert len(ids) < sum(len(probe.tokens) for probe in first.probes)


def test_without_prompts_there_is_no_fingerprint(model: PeftModel, encoder: ChatEncoder) -> None:
    with pytest.raises(JobFailed, match="answers 0 of the 0 prompts") as failed:
        record_fingerprint(model, encoder, ProbePrompts(trained=LONG, neutral=[]), "0" * 64)
    assert failed.value.code == "no_fingerprint"


@pytest.mark.parametrize(("strength", "shows"), [(0.3, True), (1e-9, False)])
def test_a_fingerprint_shows_whether_the_adapter_has_an_effect(
    tiny_base: Path, encoder: ChatEncoder, tmp_path: Path, strength: float, shows: bool
) -> None:
    adapter = write_adapter(tmp_path / "other", tiny_base, seed=1, rank=4, strength=strength)
    model = PeftModel.from_pretrained(load_base(tiny_base), adapter)
    assert record(model, encoder, SHORT).shows_effect() is shows


def test_an_adapter_that_breaks_the_numbers_fails_with_the_reason(
    tiny_base: Path, encoder: ChatEncoder, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "other", tiny_base, seed=1, rank=4, strength=1e30)
    model = PeftModel.from_pretrained(load_base(tiny_base), adapter)
    with pytest.raises(JobFailed, match="not finite"):
        record(model, encoder, SHORT)


def test_prompts_of_the_data_are_spread_and_end_where_the_first_learnt_answer_begins(tmp_path: Path) -> None:
    path = tmp_path / "chats.jsonl"
    rows = [
        [
            {"role": "system", "content": "s"},
            {"role": "user", "content": f"first {at}"},
            {"role": "assistant", "content": "kept", "weight": 0},
            {"role": "user", "content": "second"},
            {"role": "assistant", "content": "learnt"},
        ]
        for at in range(9)
    ]
    rows.append([{"role": "assistant", "content": "nothing was asked"}])
    rows.append([{"role": "user", "content": "named", "name": "ann"}, {"role": "assistant", "content": "a"}])
    path.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))
    prompts = training_prompts(path, 3, CHATS_OR_TEXTS)
    assert [prompt[1]["content"] for prompt in prompts] == ["first 0", "first 3", "first 6"]
    assert [message["role"] for message in prompts[0]] == ["system", "user", "assistant", "user"]
