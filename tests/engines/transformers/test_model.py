"""Our forward pass gives the results of transformers and PEFT, for one adapter and for any mixture."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, LlamaConfig, MistralConfig, PretrainedConfig, Qwen2Config, Qwen3Config

from engines.transformers.cache import StepAbandoned
from engines.transformers.errors import UnsupportedModel
from engines.transformers.lora import read_adapter
from engines.transformers.model import LoadedModel, ModelRunner, load_model
from engines.transformers.sampling import ChosenToken, PromptScores, SamplingParams, choose, chooser
from engines.transformers.scheduler import Scheduler
from engines.transformers.sequence import Delta, Sequence
from engines.transformers.text import TextStream
from tests.engines.random_adapter import write_adapter

SIZES = {
    "vocab_size": 49152,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
PROMPTS = [
    list(range(300, 340)),
    list(range(300, 320)),
    [5000, 17, 4000],
    list(range(7000, 7090)),
    [900] * 11,
    [77, 78],
]


class Batch:
    """A runner with sequences in it."""

    def __init__(self, loaded: LoadedModel, max_step_tokens: int) -> None:
        self._loaded = loaded
        self._runner = ModelRunner(loaded)
        self._scheduler = Scheduler(slots=4, max_step_tokens=max_step_tokens)
        self._choices: dict[int, list[ChosenToken]] = {}
        self.gives_way: Callable[[], bool] = lambda: False

    def add(self, prompt: list[int], *, adapter: int, limit: int, scores: PromptScores | None = None) -> Sequence:
        sequence = Sequence(
            tokens=list(prompt),
            adapter=adapter,
            limit=limit,
            chooser=chooser(SamplingParams(temperature=0, top_logprobs=0), 0),
            text=TextStream(self._loaded.codec, []),
            end_tokens=frozenset(),
            deliver=lambda news: None,
            arrived_at=0.0,
            scores=scores,
        )
        self._scheduler.add(sequence)
        return sequence

    def run(self) -> dict[int, list[ChosenToken]]:
        """Step until all have ended: id of the sequence -> what it generated."""
        while (plan := self._scheduler.plan()) is not None:
            try:
                rows, logits = self._runner.step(plan, self.gives_way)
            except StepAbandoned:
                plan.undo()
                continue
            for row, choice in zip(rows, choose(logits, [row.sequence.chooser for row in rows]), strict=True):
                self._choices.setdefault(id(row.sequence), []).append(choice)
                delta: Delta | None = row.sequence.accept(choice)
                if delta is not None and delta.finish is not None:
                    self._scheduler.release(row.sequence)
        return self._choices


def reference(model: torch.nn.Module, prompt: list[int], limit: int) -> list[tuple[int, float]]:
    """Greedy tokens and logprobs by whole forward passes without a cache."""
    tokens, found = list(prompt), []
    with torch.inference_mode():
        for _ in range(limit):
            logprobs = torch.log_softmax(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1], -1)
            tokens.append(int(logprobs.argmax()))
            found.append((tokens[-1], float(logprobs.max())))
    return found


def assert_same(ours: list[ChosenToken], theirs: list[tuple[int, float]]) -> None:
    assert [choice.token for choice in ours] == [token for token, _ in theirs]
    logprobs = [choice.logprob for choice in ours if choice.logprob is not None]
    assert logprobs == pytest.approx([logprob for _, logprob in theirs], abs=2e-3)


def attach(loaded: LoadedModel, adapter: int, folder: Path) -> None:
    for name, pair in read_adapter(folder, loaded.layers, 64).items():
        loaded.layers[name].pairs[adapter] = pair


def small_model(folder: Path, config: PretrainedConfig, tokenizer: Path) -> Path:
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tokenizer / name, folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize(
    "config",
    [
        LlamaConfig(**SIZES),
        LlamaConfig(**SIZES, attention_bias=True, mlp_bias=True, tie_word_embeddings=True),
        MistralConfig(**SIZES, sliding_window=None),
        Qwen2Config(**SIZES),
        Qwen3Config(**SIZES, head_dim=32),
    ],
    ids=["llama", "llama with biases", "mistral", "qwen2", "qwen3"],
)
def test_every_kind_of_model_gives_the_tokens_of_transformers(
    tmp_path: Path, model_folder: Path, config: PretrainedConfig
) -> None:
    folder = small_model(tmp_path / "model", config, model_folder)
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = Batch(load_model(folder, slots=4, max_context=256), max_step_tokens=16)
    sequences = [batch.add(prompt, adapter=0, limit=8) for prompt in PROMPTS]
    found = batch.run()
    for sequence, prompt in zip(sequences, PROMPTS, strict=True):
        assert_same(found[id(sequence)], reference(expected, prompt, 8))


@pytest.mark.long
def test_a_prompts_own_logprobs_are_those_of_transformers(tmp_path: Path, model_folder: Path) -> None:
    folder = small_model(tmp_path / "model", LlamaConfig(**SIZES), model_folder)
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = Batch(load_model(folder, slots=4, max_context=256), max_step_tokens=16)
    batch.add(PROMPTS[3], adapter=0, limit=1)
    batch.run()  # whose keys and values must not be taken for a prompt whose logprobs are wanted
    prompts = [PROMPTS[3], PROMPTS[5], [41], PROMPTS[0]]
    all_scores = [PromptScores.beginning(prompt, 2) for prompt in prompts]
    for place, (prompt, scores) in enumerate(zip(prompts, all_scores, strict=True)):
        batch.add(prompt, adapter=0, limit=3 * (place % 2), scores=scores)
    batch.run()
    for prompt, scores in zip(prompts, all_scores, strict=True):
        with torch.inference_mode():
            logits = expected(input_ids=torch.tensor([prompt]), use_cache=False).logits[0, :-1]
        logprobs = torch.log_softmax(logits, -1)
        assert [entry.token for entry in scores.entries] == prompt
        assert (scores.entries[0].logprob, scores.entries[0].alternatives) == (None, ())
        for row, entry, rank in zip(logprobs, scores.entries[1:], scores.ranks[1:], strict=True):
            assert entry.logprob == pytest.approx(float(row[entry.token]), abs=2e-3)
            assert entry.alternatives[0].logprob == pytest.approx(float(row.max()), abs=2e-3)
            assert len(entry.alternatives) == 2
            assert 1 <= rank <= SIZES["vocab_size"]


@pytest.mark.long
def test_steps_that_were_abandoned_on_the_way_change_no_token(tmp_path: Path, model_folder: Path) -> None:
    folder = small_model(tmp_path / "model", LlamaConfig(**SIZES), model_folder)
    expected = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    batch = Batch(load_model(folder, slots=4, max_context=256), max_step_tokens=16)
    layers = count()
    batch.gives_way = lambda: next(layers) % 5 == 1
    sequences = [batch.add(prompt, adapter=0, limit=8) for prompt in PROMPTS]
    found = batch.run()
    for sequence, prompt in zip(sequences, PROMPTS, strict=True):
        assert_same(found[id(sequence)], reference(expected, prompt, 8))


@pytest.mark.long
def test_a_model_with_another_attention_is_refused(tmp_path: Path, model_folder: Path) -> None:
    folder = small_model(tmp_path / "model", MistralConfig(**SIZES, sliding_window=100), model_folder)
    assert load_model(folder, slots=1, max_context=256).context == 100
    from transformers import Gemma2Config

    other = small_model(tmp_path / "other", Gemma2Config(**SIZES, head_dim=16), model_folder)
    with pytest.raises(UnsupportedModel, match="gemma2"):
        load_model(other, slots=1, max_context=256)


@pytest.mark.engine
def test_mixed_adapters_give_the_tokens_of_each_alone(tmp_path: Path, model_folder: Path) -> None:
    folders = [write_adapter(tmp_path / str(seed), model_folder, seed, rank=8 * seed, strength=0.03) for seed in (1, 2)]
    loaded = load_model(model_folder, slots=4, max_context=256)
    for adapter, folder in enumerate(folders, start=1):
        attach(loaded, adapter, folder)
    batch = Batch(loaded, max_step_tokens=32)
    wanted = [(prompt, adapter) for adapter in (2, 0, 1) for prompt in PROMPTS[:2]]
    sequences = [batch.add(prompt, adapter=adapter, limit=6) for prompt, adapter in wanted]
    found = batch.run()
    peft = PeftModel.from_pretrained(
        AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32), folders[0], adapter_name="1"
    ).eval()
    peft.load_adapter(folders[1], "2")
    for sequence, (prompt, adapter) in zip(sequences, wanted, strict=True):
        if adapter:
            peft.set_adapter(str(adapter))
            expected = reference(peft, prompt, 6)
        else:
            with peft.disable_adapter():
                expected = reference(peft, prompt, 6)
        assert_same(found[id(sequence)], expected)
    assert len({tuple(choice.token for choice in choices) for choices in found.values()}) == len(wanted)
