"""The settings of one engine, table `[engines.engine]`; an engine refuses by name what its kind cannot honour."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from engines.kinds import DEFAULT_KIND, Hardware, Precision
from engines.network.hosts import checked_host

KEEP_ALIVE_S: Final = "75"
"""Seconds that servers keep an idle connection: longer than our clients, so that none is closed under a request."""
NonEmptyName = Annotated[str, Field(min_length=1)]


class EngineSettings(BaseModel):
    """The settings of one engine: what it serves and how much it may take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: str = DEFAULT_KIND
    """Which engine, a key of `engines.catalog.ENGINES`."""
    base_path: Path
    """Hugging Face folder of the base model."""
    base_name: str
    """Served name of the base model."""
    log_path: Path
    """File that the server's output is appended to."""
    interpreter: Path | None = None
    """Python of the environment that has the engine; all but `transformers` need one."""
    hardware: Hardware = Hardware.CPU
    """Hardware that it computes on: `cpu`, `nvidia`, `amd` or `ascend`."""
    precision: Precision | None = None
    """`fp32`, `bf16`, `fp16`, `fp8`, `int8` or `int4`; None is fp32 on a CPU, else what the base model's folder has."""
    host: str = "127.0.0.1"
    """Address that the server listens on; on a cluster that of its node where it is not set."""
    advertised_host: Annotated[str, AfterValidator(checked_host)] | None = None
    """Name or address by which gateways reach the server, where that is not `host`; None is `host`, or for `0.0.0.0`
    and `::` the address of the node."""
    port: NonNegativeInt = 0
    """Port that the server listens on; 0 takes a free one."""
    threads: PositiveInt = 1
    """CPU threads that one forward pass may use."""
    tensor_parallel: PositiveInt = 1
    """Devices that share each layer."""
    pipeline_parallel: PositiveInt = 1
    """Groups of devices that hold successive layers."""
    data_parallel: PositiveInt = 1
    """Copies of the model behind the one address."""
    max_adapters: NonNegativeInt = 16
    """How many adapters may be loaded at a time; 0 for a model that can have none, such as an encoder."""
    batch_adapters: PositiveInt | None = None
    """How many different adapters may share a batch, where room is reserved for each; None is at most 8 there."""
    max_rank: PositiveInt = 64
    """Highest LoRA rank that is accepted."""
    max_batch: PositiveInt = 16
    """How many sequences are generated at a time; more wait. Requests, where transformers embeds or ranks."""
    max_context: PositiveInt = 2048
    """Longest prompt and answer together, in tokens; the model's own limit applies too."""
    max_queue: NonNegativeInt | None = None
    """How many sequences may wait for a place before more are turned away; None is 64 in transformers, else endless."""
    max_step_tokens: PositiveInt | None = None
    """Most tokens of one forward pass, so that long prompts are read in pieces; None is 128 in transformers, 1,024
    there for texts to embed or rank, else the engine's own choice."""
    kv_memory_gib: PositiveFloat | None = None
    """Memory for keys and values on each device; None is room for a full batch on a CPU, else what the device has."""
    tool_call_parser: NonEmptyName | None = None
    """The engine's parser of tool calls; None is the one that fits the base model's template, `none` is without."""
    reasoning_parser: NonEmptyName | None = None
    """The engine's parser of reasoning; None is the one that fits the base model's template, `none` is without."""
    extra_args: tuple[str, ...] = ()
    """Further arguments of the server, as its command line takes them."""
    start_timeout_s: PositiveFloat = 300.0
    """How long the server may take until it is healthy."""
    health_timeout_s: PositiveFloat = 5.0
    """How long a health check may take."""
    admin_timeout_s: PositiveFloat = 120.0
    """How long loading or unloading an adapter may take; unloading waits for the requests that use it."""
