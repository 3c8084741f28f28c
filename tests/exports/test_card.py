"""Model cards: front matter that a YAML reader takes, and nothing that names people or places."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from exports.card import CardFacts, Origin, hub_id, licence_of, model_card

BASE = Origin(
    name="tiny",
    kind="base",
    digest="b" * 64,
    licence="Apache-2.0",
    made_by={"source": "hub", "hub": "huggingface", "id": "acme/tiny", "commit": "c" * 40},
)
ADAPTER = Origin(
    name="support@7",
    kind="adapter",
    digest="a" * 64,
    licence=None,
    made_by={
        "source": "trained",
        "dataset": {"sha256": "d" * 64, "size_bytes": 12},
        "hyperparameters": {"method": "supervised", "lora": {"rank": 4, "target_modules": ["q|k", "v"]}},
        "seed": 7,
        "metrics": {"train_loss": 0.5},
    },
    scores=({"suite": "faq", "tool": "lorry", "rows": 9, "score": 0.5, "low": 0.25, "high": 0.75},),
)
QUANTIZED = Origin(
    name="support-1",
    kind="checkpoint",
    digest="e" * 64,
    licence="Apache-2.0",
    made_by={
        "quantization": {"scheme": "w8a8-int8", "perplexity": {"english": {"before": 20.0, "after": 20.5}}},
        "calibration": {"sha256": "f" * 64},
        "load_tests": {
            "transformers": {"outcome": "served", "same_answers": 3, "prompts": 8},
            "vllm": {"outcome": "not_installed", "same_answers": None, "prompts": 0},
        },
        "merge": {"tokens": 9, "same_best_tokens": 9, "logprob_rms": 0.01, "stored_as": "bfloat16"},
        "versions": {"torch": "2.13.0"},
    },
)


def card(kind: str, *lineage: Origin, form: str = "folder", **more: Any) -> tuple[dict[str, Any], str]:
    facts = CardFacts(
        title=lineage[0].name, kind=kind, form=form, base_model=hub_id(lineage), lineage=lineage, version="1", **more
    )
    text = model_card(facts)
    head: dict[str, Any] = yaml.safe_load(text.split("---\n")[1])
    return head, text


def test_the_card_of_an_adapter_has_what_made_it() -> None:
    head, text = card("adapter", ADAPTER, BASE, checked=["Read back."])
    assert head == {
        "license": "apache-2.0",
        "base_model": "acme/tiny",
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        "tags": ["lorry", "lora", "supervised"],
    }
    for part in (
        "| lora.rank | 4 |",
        r"| lora.target_modules | q\|k, v |",
        f"| dataset | sha256 `{'d' * 64}`, 12 bytes |",
        "| `support@7` | faq | lorry | 9 | 0.5000 | 0.2500 to 0.7500 |",
        "| train_loss | 0.5 |",
        "- Read back.",
        f"| `tiny` | base | hub | `{'b' * 64}` |",
    ):
        assert part in text


def test_the_card_of_a_quantized_checkpoint_has_perplexity_and_the_merge() -> None:
    head, text = card("checkpoint", QUANTIZED, ADAPTER, BASE)
    assert (head["base_model_relation"], head["library_name"]) == ("quantized", "transformers")
    for part in (
        "| english | 20.0 | 20.5 |",
        "| transformers | served; 3 of 8 answers as in full precision |",
        "| vllm | not installed |",
        "| scheme | w8a8-int8 |",
        "differ from those of base and adapter by 0.01",
    ):
        assert part in text
    head, _ = card("checkpoint", QUANTIZED, BASE, form="q8_0")
    assert (head["library_name"], "gguf" in head["tags"]) == ("gguf", True)


@pytest.mark.parametrize("licence", ["unknown", "see LICENSE", ""])
def test_a_licence_that_is_not_known_is_left_out(licence: str) -> None:
    base = Origin(name="x: [y]", kind="base", digest="b", licence=licence, made_by={})
    assert licence_of([base]) is None
    head, text = card("base", base)
    assert "license" not in head
    assert "Licence: unknown" in text
