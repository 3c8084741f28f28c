"""The operators in plain PyTorch: attention over the paged cache, and LoRA; all others are LMDeploy's own defaults."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from lmdeploy.pytorch.backends.attention import AttentionImpl, AttentionMetadata, PagedAttentionBuildSpec
from lmdeploy.pytorch.backends.default import DefaultOpsBackend
from lmdeploy.pytorch.backends.lora import LoRABuildSpec, LoRAImpl
from torch.nn import functional

DTYPE_VARIABLE = "LMDEPLOY_CPU_DTYPE"
"""Environment variable: LMDeploy allows only 16 bits, which are slow on most CPUs; float32 is taken without it."""


@dataclass
class CpuAttentionMetadata(AttentionMetadata):
    """Lengths and pages as Python values: there is no device to wait for."""

    q_lens: list[int] = field(default_factory=list)
    kv_lens: list[int] = field(default_factory=list)
    places: list[torch.Tensor] = field(default_factory=list)
    """For each sequence, where its keys and values are in the flat cache, `[kv_len]`."""


class CpuAttention(AttentionImpl):
    """Writes the new keys and values into the cache, then attends sequence by sequence."""

    def forward(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        k_cache: torch.Tensor,
        v_cache: torch.Tensor,
        attn_metadata: CpuAttentionMetadata,
        k_scales_zeros: Any = None,
        v_scales_zeros: Any = None,
        inplace: bool = True,
        **_options: Any,
    ) -> torch.Tensor:
        """Shapes: *query* and the result `[..., heads, head]`, caches `[pages, page, kv heads, head]`."""
        leading = query.shape[:-1]
        query = query.reshape(-1, self.num_heads, self.head_size)
        key = key.reshape(-1, self.num_kv_heads, self.head_size)
        value = value.reshape(-1, self.num_kv_heads, self.v_head_size)
        keys = k_cache.view(-1, *k_cache.shape[2:])
        values = v_cache.view(-1, *v_cache.shape[2:])
        out = query.new_empty(query.shape[0], self.num_heads, self.v_head_size)
        start = 0
        lengths = zip(attn_metadata.q_lens, attn_metadata.kv_lens, attn_metadata.places, strict=True)
        for q_len, kv_len, places in lengths:
            end = start + q_len
            keys[places[kv_len - q_len :]] = key[start:end].to(keys.dtype)
            values[places[kv_len - q_len :]] = value[start:end].to(values.dtype)
            seen = keys[places].to(query.dtype), values[places].to(query.dtype)
            out[start:end] = self._attend(query[start:end], *seen)
            start = end
        return out.reshape(*leading, self.v_head_size)

    def _attend(self, query: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        q_len, kv_len = len(query), len(keys)
        mask = torch.ones(q_len, kv_len, dtype=torch.bool).tril(kv_len - q_len) if q_len > 1 else None
        query, keys, values = (part.transpose(0, 1)[None] for part in (query, keys, values))
        grouped = self.num_heads != self.num_kv_heads
        attended = functional.scaled_dot_product_attention(
            query, keys, values, attn_mask=mask, scale=self.scale, enable_gqa=grouped
        )
        return attended[0].transpose(0, 1)


class CpuLoRA(LoRAImpl):
    """Adds each sequence's low-rank update to its rows of the base output."""

    def forward(
        self,
        x: torch.Tensor,
        lora_A: torch.Tensor,
        lora_B: torch.Tensor,
        base_output: torch.Tensor,
        adapter_info: Any,
        ctx_mgr: Any,
        colwise: bool,
        is_tp: bool = True,
    ) -> torch.Tensor:
        """*lora_A* `[ranks, in]` and *lora_B* `[ranks, out]` hold all adapters, one below the other."""
        context = ctx_mgr.current_context()
        rows = x.flatten(0, -2)
        out = base_output[..., adapter_info.base_slice]
        update = torch.zeros_like(out.reshape(-1, out.shape[-1]))
        start = 0
        for length, adapter in zip(context.q_seqlens.tolist(), context.local_adapter_ids.tolist(), strict=True):
            rank = int(adapter_info.ranks[adapter])
            if rank:
                first = int(adapter_info.rank_offsets[adapter])
                low = rows[start : start + length] @ lora_A[first : first + rank].t()
                factor = adapter_info.scalings[adapter].to(x.dtype)
                update[start : start + length] = (low @ lora_B[first : first + rank]) * factor
            start += length
        out += update.view_as(out)
        return base_output


class CpuOpsBackend(DefaultOpsBackend):
    """The source of LMDeploy's operators."""

    @staticmethod
    def get_name() -> str:
        """Name of the device."""
        return "cpu"

    @classmethod
    def build_op(cls, spec: Any, *, enable_deterministic: bool = False) -> Any:
        """The operator that *spec* asks for."""
        if isinstance(spec, PagedAttentionBuildSpec):
            return CpuAttention(spec.num_heads, spec.head_dim, spec.scale, spec.num_kv_heads, spec.v_head_dim)
        if isinstance(spec, LoRABuildSpec):
            return CpuLoRA()
        return super().build_op(spec, enable_deterministic=enable_deterministic)

    @staticmethod
    def get_attention_metadata_cls() -> type[CpuAttentionMetadata]:
        """The result of `update_step_context`."""
        return CpuAttentionMetadata

    @classmethod
    def update_step_context(cls, step_context: Any) -> Any:
        """The context of a step with its attention metadata filled in."""
        page = step_context.kv_caches[0][0].shape[1]
        within = torch.arange(page)
        q_lens, kv_lens = step_context.q_seqlens.tolist(), step_context.kv_seqlens.tolist()
        places = []
        for pages, kv_len in zip(step_context.block_offsets, kv_lens, strict=False):
            used = pages[: -(-kv_len // page)].long()
            places.append((used[:, None] * page + within).reshape(-1)[:kv_len])
        step_context.attn_metadata = CpuAttentionMetadata(
            step_context.is_decoding,
            step_context.block_offsets,
            q_start_loc=step_context.q_start_loc,
            q_seqlens=step_context.q_seqlens,
            kv_seqlens=step_context.kv_seqlens,
            quant_policy=step_context.kv_quant_policy,
            q_lens=q_lens,
            kv_lens=kv_lens,
            places=places,
        )
        return step_context

    @classmethod
    def get_cache_backend(cls) -> Any:
        """A contiguous tensor for each cache."""
        from lmdeploy.pytorch.backends.dlinfer.cache import DlinferCacheBackend

        return DlinferCacheBackend

    @staticmethod
    def ccl_backend() -> str:
        """Name of PyTorch's communication library."""
        return "gloo"

    @staticmethod
    def device_count() -> int:
        """A single machine."""
        return 1


def install() -> None:
    """LMDeploy's "maca" device is this backend, in the precision that `LMDEPLOY_CPU_DTYPE` names (float32)."""
    from lmdeploy.pytorch import config
    from lmdeploy.pytorch.backends.dlinfer import maca

    maca.MacaOpsBackend = CpuOpsBackend
    wanted = getattr(torch, os.environ.get(DTYPE_VARIABLE, "float32"))
    config._update_torch_dtype = _with_dtype(config._update_torch_dtype, wanted)


def _with_dtype(original: Callable[..., Any], wanted: torch.dtype) -> Callable[..., Any]:
    def update(model_config: Any, dtype: str, device_type: str = "auto") -> Any:
        model_config = original(model_config, dtype, device_type)
        model_config.dtype = wanted
        model_config.hf_config.dtype = wanted
        return model_config

    return update
