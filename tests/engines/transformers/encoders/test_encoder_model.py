"""Vectors and scores are those of transformers for each text alone, whatever shares its pass."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification

from engines.base_task import ENCODERS
from engines.transformers.encoders.model import EncoderRunner, load_encoder
from engines.transformers.encoders.waiting import TokenRow
from engines.transformers.errors import UnsupportedModel
from tests.tiny_encoder import PLACES, save_encoder, save_reranker

TEXTS = ("a cat sat on the mat", "hi", "interest rates rose by a quarter of a percent")
POOLED: dict[str, Any] = {
    "cls": lambda states: states[0],
    "lasttoken": lambda states: states[-1],
    "max": lambda states: states.max(0).values,
    "mean": lambda states: states.mean(0),
    "mean_sqrt_len_tokens": lambda states: states.sum(0) / len(states) ** 0.5,
    "weightedmean": lambda states: (
        (states * torch.arange(1, len(states) + 1)[:, None]).sum(0) * 2 / (len(states) * (len(states) + 1))
    ),
}
"""Pooling -> the same of the states of one text, by its definition."""


QUICK = ("bert", "modernbert", "qwen3", "roberta")
"""Kinds whose code differs most; importing the code of all takes too long for the quick tests."""
KINDS = [*QUICK, *(pytest.param(kind, marks=pytest.mark.engine) for kind in sorted(ENCODERS - {*QUICK}))]


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")  # transformers' DeBERTa
@pytest.mark.parametrize("kind", KINDS)
def test_a_text_has_the_vector_that_it_has_alone(tmp_path: Path, kind: str) -> None:
    loaded = load_encoder(save_encoder(tmp_path, kind, pooling_mode=list(POOLED), normalizes=False), PLACES)
    rows = [TokenRow(loaded.codec.encode(text).ids) for text in TEXTS]
    together = EncoderRunner(loaded).run(rows)
    reference = AutoModel.from_pretrained(tmp_path).eval()
    assert together.shape == (len(TEXTS), loaded.width) == (len(TEXTS), 32 * len(POOLED))
    for row, vector in zip(rows, together, strict=True):
        with torch.no_grad():
            states = reference(input_ids=torch.tensor([row.ids])).last_hidden_state[0]
        torch.testing.assert_close(vector, torch.cat([pool(states) for pool in POOLED.values()]), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", ["bert", "roberta", pytest.param("distilbert", marks=pytest.mark.engine)])
def test_a_pair_has_the_score_of_transformers(tmp_path: Path, kind: str) -> None:
    loaded = load_encoder(save_reranker(tmp_path, kind), PLACES)
    pairs = [loaded.codec.encode(TEXTS[0], other) for other in TEXTS]
    scores = EncoderRunner(loaded).run([TokenRow(pair.ids, pair.type_ids) for pair in pairs])[:, 0]
    reference = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    for pair, score in zip(pairs, scores, strict=True):
        types = {"token_type_ids": torch.tensor([pair.type_ids])} if loaded.takes_types else {}
        with torch.no_grad():
            logits = reference(input_ids=torch.tensor([pair.ids]), **types).logits
        torch.testing.assert_close(score, logits.sigmoid()[0, 0], atol=2e-5, rtol=1e-4)
    assert loaded.width == 1


def test_normalised_vectors_have_length_1(tmp_path: Path) -> None:
    loaded = load_encoder(save_encoder(tmp_path, normalizes=True, pooling_mode="cls"), PLACES)
    vectors = EncoderRunner(loaded).run([TokenRow([0, 9, 2]), TokenRow([0, 9, 9, 2])])
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(2))


def test_a_dense_layer_behind_the_pooling_is_computed(tmp_path: Path) -> None:
    save_encoder(tmp_path, pooling_mode="mean")
    plain = EncoderRunner(load_encoder(tmp_path, PLACES)).run([TokenRow([0, 9, 2])])
    weight, bias = torch.randn(5, 32), torch.randn(5)
    (tmp_path / "2_Dense").mkdir()
    save_file({"linear.weight": weight, "linear.bias": bias}, tmp_path / "2_Dense" / "model.safetensors")
    (tmp_path / "2_Dense" / "config.json").write_text('{"activation_function": "torch.nn.modules.activation.Tanh"}')
    modules = (tmp_path / "modules.json").read_text()
    dense = ', {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"}]'
    (tmp_path / "modules.json").write_text(modules.removesuffix("]") + dense)
    loaded = load_encoder(tmp_path, PLACES)
    torch.testing.assert_close(EncoderRunner(loaded).run([TokenRow([0, 9, 2])]), torch.tanh(plain @ weight.T + bias))
    assert loaded.width == 5


def test_the_context_is_the_shortest_of_what_folder_model_and_settings_allow(tmp_path: Path) -> None:
    save_encoder(tmp_path, "roberta", pooling_mode="mean")
    assert load_encoder(tmp_path, 1000).context == PLACES - 2  # positions begin behind the padding token's number
    assert load_encoder(tmp_path, 20).context == 20
    (tmp_path / "sentence_bert_config.json").write_text('{"max_seq_length": 30}')
    assert load_encoder(tmp_path, 1000).context == 30


def test_a_tokenizer_that_pads_and_cuts_by_itself_no_longer_does(tmp_path: Path) -> None:
    loaded = load_encoder(save_encoder(tmp_path), PLACES)
    assert [len(loaded.codec.encode("a" * length).ids) for length in (1, 60)] == [3, 62]


def test_weights_that_are_absent_or_no_numbers_and_labels_beyond_one_are_refused(tmp_path: Path) -> None:
    save_encoder(tmp_path / "lacking")
    weights = load_file(tmp_path / "lacking" / "model.safetensors")
    name = "encoder.layer.1.output.dense.weight"
    save_file(
        {key: value for key, value in weights.items() if key != name},
        tmp_path / "lacking" / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(UnsupportedModel, match=f"lack 1 tensors, such as {name}"):
        load_encoder(tmp_path / "lacking", PLACES)
    save_file(
        {**weights, name: weights[name] * float("nan")}, tmp_path / "lacking" / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(UnsupportedModel, match="not finite"):
        load_encoder(tmp_path / "lacking", PLACES)
    with pytest.raises(UnsupportedModel, match="one label, this one has 3"):
        load_encoder(save_reranker(tmp_path / "classes", labels=3), PLACES)


def test_a_model_whose_code_is_its_own_is_refused_without_a_question(tmp_path: Path) -> None:
    save_encoder(tmp_path, pooling_mode="mean")
    own = {"model_type": "my_bert", "auto_map": {"AutoConfig": "mine.MyConfig", "AutoModel": "mine.MyModel"}}
    (tmp_path / "config.json").write_text(json.dumps(own))
    (tmp_path / "mine.py").write_text("raise SystemExit")
    with pytest.raises(UnsupportedModel, match="custom code"):
        load_encoder(tmp_path, PLACES)
