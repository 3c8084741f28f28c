"""Imported at every start of the SGLang environment's Python, by the `.pth` file beside it.

The module waits for two imports, and does nothing on a machine with an accelerator:

- `torchvision`: PyPI's build is made for CUDA's PyTorch, so its operators are missing beside a CPU build and its fake
  kernels cannot be registered; the two operators they name are declared first.
- `triton`: nothing on the CPU's way runs it, and it takes 1 GB; the stub that SGLang has for macOS stands in.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Sequence


class _Waiting(importlib.abc.MetaPathFinder):
    """First of the finders; acts when one of the two names is looked up."""

    def __init__(self) -> None:
        self._operators: object = None

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname == "torchvision" and self._operators is None:
            self._declare_operators()
        elif fullname == "triton" and not _is_installed("triton") and not _has_accelerator():
            _install_triton_stub()
            return sys.modules["triton"].__spec__
        return None

    def _declare_operators(self) -> None:
        self._operators = ()  # before importing PyTorch, which may look for torchvision
        import torch

        if not _has_accelerator():
            library = torch.library.Library("torchvision", "FRAGMENT")
            for name in ("nms", "qnms"):
                library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
            self._operators = library  # they live as long as it does


class _Loaded(importlib.abc.Loader):
    """The loader of a module that is in `sys.modules` already."""

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return sys.modules[spec.name]

    def exec_module(self, module: types.ModuleType) -> None:
        """The module was executed when the stub was made."""


def _is_installed(name: str) -> bool:
    return importlib.machinery.PathFinder.find_spec(name) is not None


def _has_accelerator() -> bool:
    import torch

    return torch.accelerator.is_available()


def _install_triton_stub() -> None:
    """Run SGLang's own installer of stubs as if this were an Apple machine, the one place that it makes them for."""
    import unittest.mock

    import torch

    package = importlib.machinery.PathFinder.find_spec("sglang")
    folder = package.submodule_search_locations[0]
    spec = importlib.util.spec_from_file_location("_sglang_platform_stubs", f"{folder}/_platform_stubs.py")
    stubs = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = stubs
    spec.loader.exec_module(stubs)
    stubs.sys = types.SimpleNamespace(platform="darwin", modules=sys.modules, meta_path=sys.meta_path)
    stubs.platform = types.SimpleNamespace(machine=lambda: "arm64")
    nothing_found = types.SimpleNamespace(find_spec=lambda _name: None)
    stubs.importlib = types.SimpleNamespace(util=nothing_found, machinery=importlib.machinery)
    with unittest.mock.patch.object(torch.backends.mps, "is_available", lambda: True):
        stubs.install_platform_stubs()
    sys.modules["triton"].__spec__ = importlib.machinery.ModuleSpec("triton", _Loaded(), is_package=True)


sys.meta_path.insert(0, _Waiting())
