"""LMDeploy, by `python -m lmdeploy serve api_server` in its own environment; seen with 0.18.

Peculiarities:
- adapters are given when it starts and stay: another set is another process;
- its TurboMind backend, the default, ignores adapters in silence, so it is taken only where `extra_args` ask for it;
- its PEFT reads no field of an `adapter_config.json` that has one it does not know, and the start crashes;
- rank patterns and rsLoRA in that file are ignored: scaling is always alpha / r;
- adapters work on CUDA alone (and on the stand-in that serves CPUs, which calls itself `maca`);
- a stop string of more than one token is ignored;
- on SIGTERM it closes its port at once, finishes what it has, and dies by that signal; gauges are up to 10 s old.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Final

from engines.answer_parsers import CallFamily, ParserNames, ReasoningFamily, choose_parsers
from engines.drivers.base_model import context_length, kv_tokens, read_base_model
from engines.drivers.command_line import command_line, refuse_others, server_variables
from engines.drivers.live_adapters import check_adapter
from engines.drivers.own_server import Launch, OwnServer
from engines.errors import AdapterLoadFailed, AdapterNotLoaded, AdaptersFixed, EngineStartFailed, SettingRefused
from engines.keyed_server import KEY_VARIABLE
from engines.kinds import Hardware, Precision
from engines.load import EngineLoad, LoadMetrics, load_of
from engines.protocol import EngineTraits
from engines.settings import KEEP_ALIVE_S, EngineSettings

log = logging.getLogger(__name__)

MODULE: Final = ("-m", "lmdeploy", "serve", "api_server")
KV_BLOCK: Final = 64
MISSED: Final = "PyTorch ZMQ engine process is not alive"
"""The server may take away a lock that its engine process, just started, still holds; likelier on a slow machine."""
DEVICES: Final = {Hardware.CPU: "maca", Hardware.NVIDIA: "cuda", Hardware.AMD: "cuda", Hardware.ASCEND: "ascend"}
LOAD: Final = LoadMetrics(running="lmdeploy:num_requests_running", waiting="lmdeploy:num_requests_waiting")
DTYPES: Final = {Precision.BF16: "bfloat16", Precision.FP16: "float16"}
PARSERS: Final = ParserNames(  # its `llama3` reads calls behind a token that Llama 3.2 does not write
    calls={
        CallFamily.QWEN3_CODER: "qwen3coder",
        CallFamily.HERMES: "qwen3",
    },
    reasoning={ReasoningFamily.QWEN3: "default", ReasoningFamily.DEEPSEEK_R1: "default"},
    by_architecture=frozenset({CallFamily.GPT_OSS}),
)
KNOWN_FIELDS: Final = frozenset(
    {
        *("peft_type", "base_model_name_or_path", "task_type", "inference_mode", "r", "lora_alpha", "lora_dropout"),
        *("target_modules", "bias", "fan_in_fan_out", "modules_to_save", "init_lora_weights", "use_rslora"),
    }
)
"""Fields of `adapter_config.json` that its PEFT is known to read."""


class LmdeployEngine(OwnServer):
    """An `Engine` that owns one LMDeploy server; see `engines.protocol` for what each method promises."""

    def __init__(self, settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
        check_adapters(settings, adapters)
        self._fixed_adapters = dict(adapters)
        arguments = partial(server_arguments, adapters=adapters)
        super().__init__(settings, Launch(arguments, server_environment, KEY_VARIABLE, "--api-keys"))

    @property
    def traits(self) -> EngineTraits:
        """Adapters are fixed at launch."""
        return self._traits(live_adapters=False)

    async def start(self) -> None:
        """Start the server with its adapters; once more when its two processes missed each other."""
        try:
            await self._start_server()
        except EngineStartFailed as exc:
            if MISSED not in str(exc):
                raise
            log.warning("LMDeploy's engine process was gone before it began, starting again")
            await self._start_server()

    async def loaded_adapters(self) -> frozenset[str]:
        """Return the served names of the adapters: all that the server lists but the base model."""
        names = {entry["id"] for entry in await self._server.http.models()}
        return frozenset(names - {self._settings.base_name})

    async def load_adapter(self, served_name: str, path: Path) -> None:
        """Find the adapter among those that the server was started with; `AdaptersFixed` when it is not there."""
        check_adapter(served_name, path, self._settings.max_rank)
        started_with = self._fixed_adapters.get(served_name)
        if started_with is None:
            raise AdaptersFixed(f"{served_name}: LMDeploy has only the adapters that it was started with")
        if started_with != path:
            raise AdaptersFixed(f"{served_name} is already loaded, from {started_with}, not from {path}")

    async def unload_adapter(self, served_name: str) -> None:
        """Raise `AdaptersFixed` for an adapter that the server was started with, `AdapterNotLoaded` for another."""
        if served_name not in self._fixed_adapters:
            raise AdapterNotLoaded(f"{served_name} is not loaded")
        raise AdaptersFixed(f"{served_name}: LMDeploy keeps the adapters that it was started with")


def read_load(exposition: str) -> EngineLoad:
    """Return the load by LMDeploy's gauges, which are up to 10 s old; `EngineUnreachable`."""
    return load_of(exposition, LOAD)


def check_adapters(settings: EngineSettings, adapters: Mapping[str, Path]) -> None:
    """Raise `AdapterLoadFailed` for adapters that LMDeploy would crash on, `SettingRefused` where it has none."""
    if adapters and settings.hardware is Hardware.ASCEND:
        raise SettingRefused("LMDeploy has no adapters on hardware = ascend; the vllm and sglang engines do")
    if adapters and is_turbomind(settings):
        raise SettingRefused("LMDeploy's TurboMind, which extra_args ask for, has no adapters")
    if len(adapters) > settings.max_adapters:
        raise AdapterLoadFailed(f"{len(adapters)} adapters are more than all {settings.max_adapters} places")
    for served_name, path in adapters.items():
        config = check_adapter(served_name, path, settings.max_rank)
        if unknown := sorted(config.keys() - KNOWN_FIELDS):
            fields = ", ".join(unknown)
            raise AdapterLoadFailed(f"{served_name}: LMDeploy cannot read adapter_config.json with {fields}")


def is_turbomind(settings: EngineSettings) -> bool:
    """Whether `extra_args` ask for the backend that has no adapters and reads its own 4-bit formats."""
    return ("--backend", "turbomind") in pairwise(settings.extra_args) or "--backend=turbomind" in settings.extra_args


def server_arguments(settings: EngineSettings, port: int, adapters: Mapping[str, Path]) -> list[str]:
    """Return the command line of the server behind the interpreter; `SettingRefused` for what it cannot honour."""
    base = read_base_model(settings)
    turbomind = is_turbomind(settings)
    if turbomind:
        refuse_others(settings, {"kv_memory_gib": (None,), "hardware": (Hardware.NVIDIA,)})
    tokens, parsers = kv_tokens(settings, base, KV_BLOCK), choose_parsers(settings, PARSERS)
    options = {
        "--model-name": settings.base_name,
        "--backend": None if turbomind else "pytorch",
        "--device": DEVICES[settings.hardware],
        "--server-name": settings.host,
        "--server-port": port,
        "--dtype": DTYPES.get(settings.precision) if settings.precision else None,
        "--session-len": context_length(settings, base),
        "--max-batch-size": settings.max_batch,
        "--max-prefill-token-num": settings.max_step_tokens,
        "--num-gpu-blocks": tokens // KV_BLOCK if tokens is not None else None,
        "--tp": settings.tensor_parallel,
        "--logprobs-mode": None if turbomind else "raw_logprobs",
        "--generation-config": "lmdeploy",  # its own defaults, not the model folder's
        "--enable-prefix-caching": True,
        "--enable-abort-handling": True,
        "--tool-call-parser": parsers.calls,
        "--reasoning-parser": parsers.reasoning,
        "--eager-mode": True if settings.hardware is Hardware.CPU else None,
        "--adapters": [f"{name}={path}" for name, path in adapters.items()] or None,
    }
    return command_line([*MODULE, str(settings.base_path)], options, settings.extra_args)


def server_environment(settings: EngineSettings) -> dict[str, str]:
    """Return what the server's process has on top of our environment."""
    return {
        **server_variables(settings),
        "UVICORN_LOG_LEVEL": "warning",
        "UVICORN_TIMEOUT_KEEP_ALIVE": KEEP_ALIVE_S,
    }
