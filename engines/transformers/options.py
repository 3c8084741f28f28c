"""Command line of the server: what to serve, where, and how much of it."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """The settings of one server process, which `engines.settings` explains."""

    base_path: Path
    base_name: str
    host: str
    port: int
    threads: int
    max_adapters: int
    max_rank: int
    max_batch: int
    max_context: int
    max_queue: int
    max_step_tokens: int


def parse_options(argv: Sequence[str]) -> ServerOptions:
    """Read options from *argv*; exit with 2 and the usage when they are not valid."""
    parser = ArgumentParser(prog="python -m engines.transformers", allow_abbrev=False, description=__doc__)
    parser.add_argument("--base-path", type=Path, required=True, help="Hugging Face folder of the base model")
    parser.add_argument("--base-name", required=True, help="served name of the base model")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--threads", type=int, default=1, help="threads of one forward pass")
    parser.add_argument("--max-adapters", type=int, default=8)
    parser.add_argument("--max-rank", type=int, default=64)
    parser.add_argument("--max-batch", type=int, default=16, help="sequences generated at a time")
    parser.add_argument("--max-context", type=int, default=2048, help="tokens of prompt and answer together")
    parser.add_argument("--max-queue", type=int, default=64, help="sequences that may wait for a place")
    parser.add_argument("--max-step-tokens", type=int, default=128, help="most tokens of one forward pass")
    return ServerOptions(**vars(parser.parse_args(argv)))
