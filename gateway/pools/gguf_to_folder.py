"""`python -m gateway.pools.gguf_to_folder FILE FOLDER`: a GGUF file as a Hugging Face folder in bfloat16.

A process of its own, since it needs torch and much memory; the library's progress bar goes to stderr.
"""

from __future__ import annotations

import sys
from pathlib import Path


def convert(source: Path, folder: Path) -> None:
    """Write config, tokenizer and weights of *source* to *folder*."""
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    place = {"pretrained_model_name_or_path": source.parent, "gguf_file": source.name}
    tokenizer = AutoTokenizer.from_pretrained(**place)
    quantization = GgufConfig(gguf_file=source.name, dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**place, dtype="bfloat16", quantization_config=quantization)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
