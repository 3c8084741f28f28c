"""PyTorch's "cuda" means the CPU in this process: streams and events that have nothing to wait for, devices renamed."""

from __future__ import annotations

import contextlib
import functools
import types
from collections.abc import Callable
from typing import Any, Self

import psutil
import torch

FACTORIES = (
    *(
        "empty",
        "zeros",
        "ones",
        "full",
        "arange",
        "tensor",
        "as_tensor",
        "asarray",
        "rand",
        "randn",
        "randint",
        "randperm",
    ),
    *("eye", "linspace", "empty_like", "zeros_like", "ones_like", "full_like", "empty_strided", "load"),
)
METHODS = ("new_empty", "new_zeros", "new_ones", "new_full", "new_tensor")


class Event:
    """An event that has always happened."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        pass

    def record(self, stream: Stream | None = None) -> None:
        """At once."""

    def wait(self, stream: Stream | None = None) -> None:
        """No time."""

    def synchronize(self) -> None:
        """No time."""

    def query(self) -> bool:
        """The event has happened."""
        return True

    def elapsed_time(self, other: Event) -> float:
        """Milliseconds between two events that have always happened."""
        return 0.0


class Stream:
    """A stream whose work is done when it is given."""

    def __init__(self, *_args: Any, **_options: Any) -> None:
        self.cuda_stream = id(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        pass

    def synchronize(self) -> None:
        """No time."""

    def wait_stream(self, other: Stream) -> None:
        """No time."""

    def wait_event(self, event: Event) -> None:
        """No time."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event that has happened."""
        return event or Event()

    def query(self) -> bool:
        """All is done."""
        return True


def install() -> None:
    """ "cuda" is the CPU from now on; `RuntimeError` on a machine with an accelerator, where it would hide that one."""
    if torch.accelerator.is_available():
        raise RuntimeError(
            "this LMDeploy environment holds a stand-in for machines without an accelerator, and there is one here "
            f"({torch.accelerator.current_accelerator()}): `lorry envs install lmdeploy --variant KIND`"
        )
    _replace_device()
    for name in FACTORIES:
        setattr(torch, name, _on_cpu(getattr(torch, name)))
    for name in METHODS:
        setattr(torch.Tensor, name, _on_cpu(getattr(torch.Tensor, name)))
    torch.Tensor.to = _to_cpu(torch.Tensor.to)
    torch.Tensor.cuda = torch.Tensor.pin_memory = _itself
    torch.Tensor.record_stream = lambda self, stream: None
    torch.nn.Module.to = _to_cpu(torch.nn.Module.to)
    torch.nn.Module.to_empty = _on_cpu(torch.nn.Module.to_empty)
    torch.nn.Module.cuda = _itself


def _replace_device() -> None:
    default = Stream()
    answers: dict[str, Any] = {
        "current_stream": default,
        "default_stream": default,
        "synchronize": None,
        "empty_cache": None,
        "set_device": None,
        "current_device": "cpu",
        "device_count": 1,
        "get_device_name": "cpu",
        "get_device_capability": (8, 0),
        "max_memory_allocated": 0,
        "memory_allocated": 0,
        "memory_reserved": 0,
    }
    for name, answer in answers.items():
        setattr(torch.cuda, name, _always(answer))
    torch.cuda.Stream, torch.cuda.Event = Stream, Event
    torch.cuda.stream = contextlib.nullcontext
    torch.cuda.device = lambda _device: contextlib.nullcontext()
    torch.cuda.mem_get_info = _memory
    torch.cuda.get_device_properties = _properties


def _memory(_device: Any = None) -> tuple[int, int]:
    """Bytes that are free, and all there are."""
    memory = psutil.virtual_memory()
    return memory.available, memory.total


def _properties(_device: Any = None) -> types.SimpleNamespace:
    return types.SimpleNamespace(
        name="cpu",
        major=8,
        minor=0,
        uuid="cpu",
        multi_processor_count=1,
        total_memory=psutil.virtual_memory().total,
        shared_memory_per_block_optin=101376,
        warp_size=32,
    )


def _always(answer: Any) -> Callable[..., Any]:
    return lambda *_args, **_options: answer


def _itself(self: Any, *_args: Any, **_options: Any) -> Any:
    return self


def _renamed(value: Any) -> Any:
    """*value*, or the CPU when it names a CUDA device."""
    if isinstance(value, str) and value.startswith("cuda"):
        return "cpu"
    if isinstance(value, torch.device) and value.type == "cuda":
        return torch.device("cpu")
    return value


def _on_cpu(function: Callable[..., Any]) -> Callable[..., Any]:
    """*function* with its named devices renamed, and without pinned memory."""

    @functools.wraps(function)
    def wrapper(*args: Any, **options: Any) -> Any:
        options.pop("pin_memory", None)
        for name in {"device", "map_location"} & options.keys():
            options[name] = _renamed(options[name])
        return function(*args, **options)

    return wrapper


def _to_cpu(method: Callable[..., Any]) -> Callable[..., Any]:
    """*method* (`to`), whose first argument may be a device too: by name, or by number."""
    named = _on_cpu(method)

    @functools.wraps(method)
    def wrapper(self: Any, *args: Any, **options: Any) -> Any:
        first, *rest = args or (None,)
        if isinstance(first, int) and not isinstance(first, bool):
            first = "cpu"
        return named(self, *(_renamed(value) for value in (first, *rest)[: len(args)]), **options)

    return wrapper
