"""Loss covers the assistant's tokens only, under the template that the engine renders with."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, models, processors
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerFast

from registry.contracts.plain_text import PlainText
from registry.contracts.training_file import TrainingRow
from registry.contracts.training_formats import CHATS_OR_TEXTS, LineParser
from tests.trainer.tiny_base import CHATML, save_tokenizer, write_chats
from trainer.data.dataset import ChatEncoder, read_rows
from trainer.data.encoded_row import IGNORED, EncodedRow, collate
from trainer.data.fitting_rows import FittingRows, RowLimits
from trainer.errors import JobFailed
from trainer.training.loss import count_learnt, summed_cross_entropy

TWO_TURNS = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": "first"},
    {"role": "user", "content": "and?"},
    {"role": "assistant", "content": "second"},
]


def encode(folder: Path, messages: Sequence[Mapping[str, object]], line: int = 1) -> EncodedRow:
    [row] = ChatEncoder(folder).encode(
        LineParser(CHATS_OR_TEXTS).parse(json.dumps({"messages": [*messages]}).encode(), line)
    )
    return row


def learnt_text(folder: Path, row: EncodedRow) -> list[str]:
    """The stretches of learnt tokens as text."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    stretches: list[list[int]] = []
    before = IGNORED
    for label in row.labels:
        if label != IGNORED:
            stretches = stretches if before != IGNORED else [*stretches, []]
            stretches[-1].append(label)
        before = label
    return [tokenizer.decode(stretch) for stretch in stretches]


def test_answers_and_their_end_tokens_are_learnt_and_nothing_else(tiny_base: Path) -> None:
    row = encode(tiny_base, TWO_TURNS)
    assert learnt_text(tiny_base, row) == ["first<|im_end|>", "second<|im_end|>"]
    assert all(label in (IGNORED, token) for label, token in zip(row.labels, row.input_ids, strict=True))


def test_a_turn_with_weight_0_is_read_and_not_learnt(tiny_base: Path) -> None:
    row = encode(tiny_base, [TWO_TURNS[0], {**TWO_TURNS[1], "weight": 0}, *TWO_TURNS[2:]])
    assert learnt_text(tiny_base, row) == ["second<|im_end|>"]
    assert row.input_ids == encode(tiny_base, TWO_TURNS).input_ids


@pytest.mark.parametrize("answer", ["plain", "\n leads with a line", "  indented", "ünï ✓", "says <|im_end|> itself"])
def test_prompt_and_answer_of_the_engine_are_what_is_trained(tiny_base: Path, answer: str) -> None:
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hi"}]
    row = encode(tiny_base, [*chat, {"role": "assistant", "content": answer}])
    prompt = AutoTokenizer.from_pretrained(tiny_base).apply_chat_template(
        chat, add_generation_prompt=True, return_dict=False
    )
    first = next(at for at, label in enumerate(row.labels) if label != IGNORED)
    assert list(row.input_ids[:first]) == prompt
    assert learnt_text(tiny_base, row) == [answer + "<|im_end|>"]


@pytest.mark.parametrize(
    ("prompt", "completion", "learnt"),
    [
        ("Q: hi\n\nA:", " Good.", " Good.<|im_end|>"),
        ("", "Once upon a time", "Once upon a time<|im_end|>"),
        ("Say ", "<|im_end|>", "<|im_end|>"),
    ],
)
def test_a_completion_and_its_end_are_learnt_without_a_template(
    tiny_base: Path, prompt: str, completion: str, learnt: str
) -> None:
    line = json.dumps({"prompt": prompt, "completion": completion}).encode()
    [row] = ChatEncoder(tiny_base).encode(LineParser(CHATS_OR_TEXTS).parse(line, 1))
    assert "".join(learnt_text(tiny_base, row)) == learnt
    assert AutoTokenizer.from_pretrained(tiny_base).decode(row.input_ids) == prompt + learnt


def test_the_prompt_of_a_text_is_trained_as_an_engine_reads_it(tmp_path: Path) -> None:
    """The tokenizer opens every text with a token, and has one for two letters that span the border."""
    vocabulary = {"<s>": 0, "</s>": 1, "a": 2, "b": 3, "ab": 4}
    core = Tokenizer(models.BPE(vocab=vocabulary, merges=[("a", "b")]))
    core.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>", eos_token="</s>")
    tokenizer.chat_template = CHATML
    tokenizer.save_pretrained(tmp_path)
    for prompt, completion, ids in (("ba", "b", (0, 3, 2, 3, 1)), ("ab", "ab", (0, 4, 4, 1))):
        [row] = ChatEncoder(tmp_path).encode(TrainingRow(line=1, text=PlainText(prompt=prompt, completion=completion)))
        assert row.input_ids == ids
        assert list(row.input_ids[: len(ids) - 2]) == tokenizer(prompt)["input_ids"]


@pytest.mark.engine
def test_the_bundled_model_learns_answers_and_their_end(model_folder: Path) -> None:
    row = encode(model_folder, TWO_TURNS)
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    assert learnt_text(model_folder, row) == ["first<|im_end|>", "second<|im_end|>"]
    assert list(row.input_ids) == tokenizer.apply_chat_template(TWO_TURNS, return_dict=False)


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (
            "{{ raise_exception('no system here') }}",
            "line 3: the base model's chat template refuses it: no system here",
        ),
        (
            CHATML.replace("<|im_end|>", "."),
            "line 3: messages[1]: the base model's chat template puts no end token after an answer",
        ),
    ],
)
def test_a_template_that_cannot_be_trained_on_is_named_with_the_line(
    tmp_path: Path, template: str, expected: str
) -> None:
    save_tokenizer(tmp_path, template)
    with pytest.raises(JobFailed) as caught:
        encode(tmp_path, TWO_TURNS, line=3)
    assert str(caught.value).startswith(expected)


def test_a_base_without_a_chat_template_is_refused(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, template=None)
    with pytest.raises(JobFailed, match="no chat template"):
        ChatEncoder(tmp_path)


def test_logits_are_computed_only_where_needed_and_the_loss_is_the_same(tiny_base: Path, tmp_path: Path) -> None:
    fitting = FittingRows(RowLimits(max_length=512))
    rows = read_rows(write_chats(tmp_path / "chats.jsonl"), ChatEncoder(tiny_base), fitting)
    model = LlamaForCausalLM.from_pretrained(tiny_base).eval()
    batch = dict(collate(rows))
    labels = batch.pop("labels")
    learnt = count_learnt([{"labels": labels}])
    longest = batch["input_ids"].shape[1]
    with torch.no_grad():
        ours = summed_cross_entropy(model(**batch).logits, labels) / learnt
        full = torch.tensor([[*row.labels, *[IGNORED] * (longest - len(row.labels))] for row in rows])
        theirs = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=full).loss
    assert learnt == sum(label != IGNORED for row in rows for label in row.labels)
    assert batch["logits_to_keep"].shape[0] < longest
    torch.testing.assert_close(ours, theirs)
