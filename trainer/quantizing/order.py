"""The order for the program that quantizes, and its messages. Standard library only: both environments read them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizeOrder:
    """Everything that the program needs; it reads neither settings nor database."""

    model_folder: str
    """The model in full precision."""
    final_folder: str
    """The folder that the program makes."""
    name: str
    """First part of the checkpoint's name, which a GGUF file carries."""
    scheme: str
    """Value of `registry.contracts.quantizations.schemes.Scheme`."""
    gguf_type: str | None
    """Type of the matrices of a GGUF file; None for a folder in the format of compressed-tensors."""
    group_size: int | None
    """Weights that share a scale; None where a scale is that of a whole row."""
    stored_type: str
    """Name of PyTorch's type in which tensors that are not quantized are stored: `bfloat16`."""
    calibration: list[list[int]]
    """Rows as tokens, which the quantizer computes its scales from."""
    texts: dict[str, list[list[int]]]
    """Name of a text -> its parts as tokens, for the perplexity."""
    prompts: list[list[int]]
    """Prompts as tokens, for the agreement of greedy answers."""
    answer_tokens: int
    ends: list[int]
    """Tokens that end an answer."""
    window: int
    stride: int
    threads: int
    seed: int
    parent_pid: int
    """The program ends when this process does."""

    def write(self, path: Path) -> None:
        """Write the order as JSON."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> QuantizeOrder:
        """Read what `write` wrote."""
        return cls(**json.loads(path.read_text()))


class CannotQuantize(Exception):
    """The model has no form in the order's scheme; the message is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolMessage:
    """A line that the program writes to its pipe."""

    kind: Literal["noted", "phase", "tried", "failed", "finished"]
    message: str = ""
    """A sentence for people; the name of the phase for `phase`."""
    data: Mapping[str, Any]

    def line(self) -> bytes:
        """Return the message as a line of JSON."""
        return json.dumps({"kind": self.kind, "message": self.message, "data": dict(self.data)}).encode() + b"\n"

    @classmethod
    def parse(cls, line: bytes) -> ToolMessage:
        """Return the message on *line*; `ValueError` where there is none."""
        fields = json.loads(line)
        return cls(kind=fields["kind"], message=fields["message"], data=fields["data"])
