"""A base model so small that a job takes seconds, most of them for imports, and chats to train it on."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

CHATML = (
    "{% for message in messages %}{% if loop.first and message['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nBe kind<|im_end|>\\n' }}{% endif %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""The shape of SmolLM2's template: a default system prompt, no marks around the assistant's text."""
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ROWS = 12


def save_tokenizer(folder: Path, template: str | None = CHATML) -> None:
    """Write a tokenizer of single bytes, with pad and end the same token as in SmolLM2's folder."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate([*SPECIAL, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token=SPECIAL[0], bos_token=SPECIAL[1], eos_token=SPECIAL[2], pad_token=SPECIAL[2]
    )
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)


def write_chats(path: Path, rows: int = ROWS) -> Path:
    """A training file of short chats that differ."""
    chats = [
        [{"role": "user", "content": f"q{at}" * (at % 3 + 1)}, {"role": "assistant", "content": f"answer {at}"}]
        for at in range(rows)
    ]
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats))
    return path


def save_base(folder: Path, positions: int = 512, hidden: int = 32) -> None:
    """Write a Llama of two small layers with random weights as a Hugging Face folder.

    *positions* is the longest context, *hidden* the width: vLLM wants at least 32 numbers for each of the 4 heads.
    """
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(SPECIAL) + 256,
        hidden_size=hidden,
        intermediate_size=2 * hidden,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=positions,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    GenerationConfig(eos_token_id=2).save_pretrained(folder)
    save_tokenizer(folder)
