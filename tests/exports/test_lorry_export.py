"""`lorry export` from a gateway into folders and files, which other tools load."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM

from tests.exports.conftest import Exhibit
from tests.gateway.cli.lorry_command import lorry, run_lorry

pytestmark = pytest.mark.trains


def front_matter(card: Path) -> dict[str, object]:
    _, head, _ = card.read_text().split("---\n", 2)
    found: dict[str, object] = yaml.safe_load(head)
    return found


def test_an_adapter_becomes_a_folder_that_peft_loads_and_that_has_no_training_data(
    exhibit: Exhibit, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    told = json.loads(lorry(exhibit.url, "export", "support@1", "--to", str(target), "--json"))
    assert [path.name for path in sorted(target.iterdir())] == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert told["remarks"][0].startswith("Read back: the logprobs of")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        assert (target / name).read_bytes() == (exhibit.artifact / name).read_bytes()
    model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(exhibit.base.path), target)
    assert model.peft_config["default"].r == 8
    head = front_matter(target / "README.md")
    assert (head["license"], head["base_model"], head["library_name"]) == ("apache-2.0", "tiny", "peft")
    card = (target / "README.md").read_text()
    assert "n_epochs | 2" in card
    for secret in ("ann", exhibit.base.path, str(tmp_path)):
        assert secret not in card.replace("answer", "")
    refused = lorry(exhibit.url, "export", "support@1", "--to", str(target), code=1)
    assert "not empty; give a new folder" in refused
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_a_base_model_becomes_a_folder_a_file_and_what_ollama_needs(exhibit: Exhibit, tmp_path: Path) -> None:
    lorry(exhibit.url, "export", "tiny", "--to", str(tmp_path / "whole"))
    source, again = (AutoModelForCausalLM.from_pretrained(each) for each in (exhibit.base.path, tmp_path / "whole"))
    ids = torch.arange(3, 30)[None]
    assert torch.equal(source(ids).logits, again(ids).logits)

    file = tmp_path / "tiny.gguf"
    _, remarks = run_lorry("export", "tiny", "--to", f"gguf:{file}", "--type", "f32", LORRY_URL=exhibit.url)
    assert "differ by 0.0 nats" in remarks
    assert gguf.GGUFReader(file).get_field("general.license").contents() == "apache-2.0"
    assert "is there already" in lorry(exhibit.url, "export", "tiny", "--to", f"gguf:{file}", code=1)

    told = lorry(exhibit.url, "export", "support@1", "--to", f"ollama:{tmp_path / 'ollama'}", "--type", "q8_0")
    assert "ollama create support-1 -f" in told
    lines = (tmp_path / "ollama" / "Modelfile").read_text()
    assert lines.startswith("FROM ./model.gguf\nADAPTER ./adapter.gguf\nTEMPLATE ")
    assert 'SYSTEM """Be kind"""' in lines
    adapter = gguf.GGUFReader(tmp_path / "ollama" / "adapter.gguf")
    assert adapter.get_field("adapter.type").contents() == "lora"
    assert {tensor.name for tensor in adapter.tensors} >= {"blk.0.attn_q.weight.lora_a", "blk.1.ffn_up.weight.lora_b"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("support@9", "--to", "x"), 1, "support"),
        (("tiny", "--to", "x", "--type", "q8_0"), 2, "--type is of --to gguf"),
        (("tiny", "--to", "gguf", "--type", "q3_k"), 2, "one of f32, f16"),
        (("tiny", "--to", "hf:support"), 2, "write hf:ORGANISATION/NAME"),
        (("tiny", "--to", "hugging:a/b"), 2, "is not a place to export to"),
        (("tiny", "--to", "x", "--public"), 2, "are of uploads to a hub"),
        (("tiny", "--to", "hf:a/b"), 1, "set HF_TOKEN to a token"),
        (("tiny", "--to", "x", "--merged"), 1, "is a whole model already"),
        (("tiny", "--to", "/nowhere/x"), 1, "there is no folder /nowhere"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_anything_is_fetched(
    exhibit: Exhibit, words: tuple[str, ...], code: int, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HF_TOKEN", raising=False)
    before = sorted(tmp_path.iterdir())
    assert message in " ".join(lorry(exhibit.url, "export", *words, code=code).split())
    assert sorted(tmp_path.iterdir()) == before
