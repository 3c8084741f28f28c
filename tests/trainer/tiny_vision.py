"""Base models with sight that are so small that a job takes seconds, and chats with pictures to train them on."""

from __future__ import annotations

import base64
import json
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    CLIPVisionConfig,
    GenerationConfig,
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.idefics3.configuration_idefics3 import Idefics3VisionConfig
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.idefics3.processing_idefics3 import Idefics3Processor

PARTS: Final = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ 'MARK' }}{% else %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{{ '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""ChatML for contents that are lists of parts, as the templates of models with sight are."""
COLOURS: Final = {"red": (255, 0, 0), "blue": (0, 0, 255), "green": (0, 255, 0)}


def vision_tokenizer(*pictures: str) -> PreTrainedTokenizerFast:
    """A tokenizer of single bytes with the marks *pictures*; the first stands for a picture in the template."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *pictures]
    core = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate([*special, *alphabet])}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        unk_token=special[0],
        bos_token=special[1],
        eos_token=special[2],
        pad_token=special[0],
        additional_special_tokens=[*pictures],
    )
    tokenizer.chat_template = PARTS.replace("MARK", pictures[0])
    return tokenizer


def language_config(vocabulary: int) -> LlamaConfig:
    """Two layers with heads of a size that vLLM computes on a CPU."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=1024,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )


def save_idefics(folder: Path) -> None:
    """Write an Idefics3 with random weights: of the kinds that vLLM serves the one that needs no torchvision."""
    torch.manual_seed(0)
    tokenizer = vision_tokenizer("<image>", "<fake_token_around_image>", "<end_of_utterance>", "<global-img>")
    vision = Idefics3VisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2, image_size=32, patch_size=8
    )
    config = Idefics3Config(
        vision_config=vision.to_dict(),
        text_config=language_config(len(tokenizer)).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        scale_factor=2,
        pad_token_id=0,
        tie_word_embeddings=False,
    )
    model = Idefics3ForConditionalGeneration(config)
    # Pictures of a random model hardly move its answers: made louder, so that tests see whether they arrive.
    with torch.no_grad():
        model.model.connector.modality_projection.proj.weight.mul_(20)
    model.save_pretrained(folder)
    pixels = Idefics3ImageProcessorPil(
        size={"longest_edge": 32}, max_image_size={"longest_edge": 32}, do_image_splitting=False
    )
    Idefics3Processor(
        image_processor=pixels, tokenizer=tokenizer, image_seq_len=4, chat_template=tokenizer.chat_template
    ).save_pretrained(folder)
    GenerationConfig(eos_token_id=2).save_pretrained(folder)


def save_llava(folder: Path) -> None:
    """Write a LLaVA with random weights, whose stored weights have other names than its modules."""
    torch.manual_seed(0)
    tokenizer = vision_tokenizer("<image>")
    vision = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4, image_size=32, patch_size=8
    )
    config = LlavaConfig(
        vision_config=vision.to_dict(),
        text_config=language_config(len(tokenizer)).to_dict(),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        vision_feature_layer=-2,
    )
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    pixels = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    LlavaProcessor(
        image_processor=pixels,
        tokenizer=tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)
    GenerationConfig(eos_token_id=2).save_pretrained(folder)


def picture(colour: str, size: tuple[int, int] = (50, 40)) -> bytes:
    """A PNG of one colour."""
    written = BytesIO()
    Image.new("RGB", size, COLOURS[colour]).save(written, "PNG")
    return written.getvalue()


def picture_part(colour: str) -> dict[str, Any]:
    """A part of a message with a picture as a data URL."""
    url = "data:image/png;base64," + base64.b64encode(picture(colour)).decode()
    return {"type": "image_url", "image_url": {"url": url}}


def picture_chats(rows: int = 12) -> list[dict[str, Any]]:
    """Chats about pictures of one colour, every third of them without a picture."""
    chats = []
    for at in range(rows):
        colour = list(COLOURS)[at % 3]
        question: list[dict[str, Any]] = [{"type": "text", "text": f"colour {at}?"}]
        if at % 3 != 2:
            question.insert(at % 2, picture_part(colour))
        chats.append({"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": colour}]})
    return chats


def write_picture_chats(path: Path, rows: int = 12) -> Path:
    """A training file of `picture_chats`."""
    path.write_text("".join(json.dumps(chat) + "\n" for chat in picture_chats(rows)))
    return path
