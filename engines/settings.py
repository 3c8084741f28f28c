"""The knobs of one engine, table `[engines]`."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, NonNegativeInt, PositiveFloat, PositiveInt


class EngineSettings(BaseModel):
    """What an engine serves and how much it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = "transformers"
    """Which engine, a key of `engines.catalog.ENGINES`."""
    base_path: Path
    """Hugging Face folder of the base model."""
    base_name: str
    """Served name of the base model."""
    log_path: Path
    """File that the server's output is appended to."""
    host: str = "127.0.0.1"
    """Address that the server listens on."""
    port: NonNegativeInt = 0
    """Port that the server listens on; 0 takes a free one."""
    threads: PositiveInt = 1
    """Threads that one forward pass may use."""
    max_adapters: PositiveInt = 16
    """How many adapters may be loaded at a time."""
    max_rank: PositiveInt = 512
    """Highest LoRA rank that is accepted."""
    max_batch: PositiveInt = 16
    """How many sequences are generated at a time; more wait."""
    max_context: PositiveInt = 2048
    """Longest prompt and answer together, in tokens; the model's own limit applies too."""
    max_queue: NonNegativeInt = 64
    """How many sequences may wait for a place; more are answered 429."""
    max_step_tokens: PositiveInt = 128
    """Most tokens of one forward pass: long prompts are read in pieces, so that running answers go on meanwhile."""
    start_timeout_s: PositiveFloat = 180.0
    """How long the server may take until it is healthy."""
    health_timeout_s: PositiveFloat = 5.0
    """How long a health check may take."""
    admin_timeout_s: PositiveFloat = 120.0
    """How long loading or unloading an adapter may take; unloading waits for the requests that use it."""
