"""Rows that lie in one sequence get the logits and the gradients that they get alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel

from registry.contracts.methods.packing_limits import FULL_ATTENTION
from registry.errors import WeightsRefused
from tests.trainer.conftest import MakeSpec
from trainer.data.encoded_row import IGNORED, EncodedRow
from trainer.data.packing import NOBODY, RowCollator, model_inputs, sum_by_row
from trainer.errors import JobFailed

SHAPE: Final = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
WIDE: Final = SHAPE | {"hidden_size": 2048, "intermediate_size": 8192, "num_attention_heads": 32}
"""Where linear layers cost so much that saved tokens always gain."""


def config_of(kind: str, **fields: Any) -> PreTrainedConfig:
    config = AutoConfig.for_model(kind, **(SHAPE | {"sliding_window": None} | fields))
    config._attn_implementation = "sdpa"
    return config


def model_of(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(config_of(kind)).double()


class Shape:
    """Stands for a model of which only the shape matters."""

    def __init__(self, config: PreTrainedConfig, device: str = "cpu") -> None:
        self.config = config
        self.device = torch.device(device)


def collator(model: Any, *, packing: bool | None = None, dropout: float = 0.0) -> RowCollator:
    made = RowCollator(packing=packing)
    made.fit(model, dropout=dropout)
    return made


def row(given: Sequence[int], learnt: Sequence[int]) -> EncodedRow:
    labels = (*[IGNORED] * len(given), *learnt)
    return EncodedRow(line=1, input_ids=(*given, *learnt), labels=labels)


PROMPT: Final = [5, 6, 7, 8, 9, 10, 11, 12]
ROWS: Final = [
    row([*PROMPT, 20, 21], [30, 31, 2]),
    row([*PROMPT, 20, 22, 23], [32, 2]),
    row([*PROMPT, 20, 22, 23], [32, 33, 34, 2]),
    row([13, 14], [30, 2]),
    row([13, 14], [30, 2]),
    row([13], [2]),
]
"""Rows with beginnings in common, one twice, and rows so short that two fit beside each other."""
LAYOUTS: Final[Mapping[str, Mapping[str, Any]]] = {
    "padded": {"packing": False},
    "packed": {"packing": True, "dropout": 0.1},
    "shared": {"packing": True},
}


def answers(model: PreTrainedModel, batch: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """The logprobs of all rows, and the gradients of a sum in which each row has another weight."""
    logits = model(**model_inputs(batch)).logits.log_softmax(-1)
    learnt = logits.gather(-1, batch["labels"].clamp(min=0)[..., None])[..., 0]
    sums = sum_by_row(learnt, batch)
    gradients = torch.autograd.grad((sums * torch.arange(1, len(sums) + 1)).sum(), [*model.parameters()])
    return sums.detach(), torch.cat([gradient.flatten() for gradient in gradients])


@pytest.mark.parametrize("kind", sorted(FULL_ATTENTION))
def test_every_layout_gives_the_logprobs_and_gradients_of_rows_alone(kind: str) -> None:
    model = model_of(kind)
    alone = [answers(model, RowCollator(packing=False)([one])) for one in ROWS]
    expected = torch.cat([sums for sums, _ in alone])
    gradient = torch.stack([gradient * at for at, (_, gradient) in enumerate(alone, start=1)]).sum(0)
    sizes = set()
    for fields in LAYOUTS.values():
        batch = collator(model, **fields)(ROWS)
        sums, gradients = answers(model, batch)
        torch.testing.assert_close(sums, expected, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(gradients, gradient, rtol=1e-5, atol=1e-5)  # norms compute in float32
        sizes.add(tuple(batch["input_ids"].shape))
        assert int(batch["attention_mask"].sum()) == sum(len(one.input_ids) for one in ROWS)
    assert sizes == {(6, 15), (4, 15), (1, 31)}, "three layouts indeed"


def test_a_row_does_not_notice_what_lies_beside_it() -> None:
    model = model_of("llama")
    other = [*ROWS[:3], row([40, 41], [50, 2]), ROWS[4], row([42], [2])]
    for fields in LAYOUTS.values():
        collate = collator(model, **fields)
        sums = [answers(model, collate(rows))[0] for rows in (ROWS, other)]
        changed = [3, 5]
        assert (sums[0][changed] != sums[1][changed]).all()
        kept = [0, 1, 2, 4]
        torch.testing.assert_close(sums[0][kept], sums[1][kept], rtol=1e-12, atol=1e-12)


ANY_ROWS: Final = st.lists(
    st.builds(row, st.lists(st.integers(3, 5), min_size=1, max_size=9), st.lists(st.integers(3, 5), min_size=1)),
    min_size=1,
    max_size=8,
)


@pytest.mark.long
@settings(max_examples=60, deadline=None)
@given(rows=ANY_ROWS, shares=st.booleans())
def test_every_row_reads_itself_whole_and_nothing_else(rows: list[EncodedRow], shares: bool) -> None:
    batch = collator(Shape(config_of("llama")), packing=True, dropout=0.0 if shares else 0.1)(rows)
    kept = batch["logits_to_keep"]
    assert ((batch["owners"] == NOBODY) == (batch["labels"] == IGNORED)).all()
    for number, one in enumerate(rows):
        learnt = (batch["owners"] == number).nonzero().tolist()
        assert [int(batch["labels"][at, place]) for at, place in learnt] == [x for x in one.labels[1:] if x != IGNORED]
        for nth, (at, place) in enumerate(learnt):
            seen = batch["visible"][at, 0, kept[place]].nonzero().flatten()
            read = len(one.labels) - len(learnt) + nth
            assert batch["input_ids"][at, seen].tolist() == list(one.input_ids[:read])
            assert batch["position_ids"][at, seen].tolist() == list(range(read))


def test_a_pass_takes_the_layout_with_the_least_work() -> None:
    choose = collator(Shape(config_of("llama", **WIDE)))
    assert choose(ROWS)["input_ids"].shape == (1, 31)
    narrow = collator(Shape(config_of("llama")))
    long = [row([*range(3, 9), *[at] * 300], [2]) for at in range(10, 18)]
    assert narrow(long)["input_ids"].shape == (8, 307), "a mask over all tokens costs more than six of them save"
    alike = [row([at] * 20, [2]) for at in range(10, 14)]
    assert "visible" not in choose(alike), "nothing to save"
    assert collator(Shape(config_of("llama")), packing=True)(long)["input_ids"].shape == (8, 307), "nothing to pack"
    assert "visible" not in collator(Shape(config_of("llama", **WIDE), "meta"))(ROWS), "measured on CPUs alone"


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (config_of("mistral", sliding_window=16), "the base model limits attention to a window"),
        (config_of("gemma3_text"), "models of the kind gemma3_text are not known to keep packed rows apart"),
        (config_of("qwen2", layer_types=["full_attention", "sliding_attention"]), "limits attention to a window"),
    ],
)
def test_a_base_that_cannot_keep_rows_apart_is_padded_and_refused_where_packing_was_asked_for(
    config: PreTrainedConfig, why: str, tmp_path: Path, make_spec: MakeSpec
) -> None:
    config.save_pretrained(tmp_path)
    with pytest.raises(WeightsRefused, match=f"^packing: .*{why}; leave packing out"):
        make_spec(packing=True).check_base(tmp_path)  # as the gateway does
    make_spec().check_base(tmp_path)
    assert "visible" not in collator(Shape(config))(ROWS)
    with pytest.raises(JobFailed, match=f"^packing: .*{why}; leave packing out") as caught:
        collator(Shape(config), packing=True)
    assert caught.value.code == "invalid_hyperparameters"
