"""An adapter folder is loaded if it is servable, and unloaded when its last request has ended."""

from __future__ import annotations

import asyncio
import json
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from tokenizers import Tokenizer, models
from torch import nn

from conversations.chat_template import ChatTemplate
from engines.transformers.cache import CacheShape
from engines.transformers.errors import ApiError, BadRequest, NoSuchResource
from engines.transformers.generation import GenerationDemand, GenerationIntake, QueueLimits
from engines.transformers.linear import AdaptedLinear, LoraPair, Segment, StepSegments, product_of
from engines.transformers.lora import AdapterTable, read_adapter, scaling_of
from engines.transformers.metrics import EngineMetrics
from engines.transformers.model import LoadedModel, ModelRunner
from engines.transformers.requests.bodies import GenerationRequest
from engines.transformers.scheduler import Scheduler
from engines.transformers.stepper import Stepper
from engines.transformers.text import TextStream
from tests.engines.random_adapter import layer_shapes, write_adapter

CODEC = Tokenizer(models.WordLevel({"a": 0}))
CONFIG = {
    "model_type": "llama",
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "head_dim": 8,
    "num_hidden_layers": 1,
}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return tmp_path


@pytest.fixture
def layers(model: Path) -> dict[str, AdaptedLinear]:
    segments = StepSegments()
    return {name: adapted(nn.Linear(*shape), segments) for name, shape in layer_shapes(model).items()}


def adapted(linear: nn.Linear, segments: StepSegments) -> AdaptedLinear:
    return AdaptedLinear(linear, product_of([linear]), segments)


def change_settings(folder: Path, **changes: Any) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_each_row_gets_its_own_adapter() -> None:
    torch.manual_seed(0)
    linear, segments = nn.Linear(8, 4), StepSegments()
    layer = adapted(linear, segments)
    rows, down, up = torch.randn(1, 6, 8), torch.randn(8, 2), torch.randn(2, 4)
    layer.pairs[5] = LoraPair(down, up)
    segments.current = (Segment(5, 2, 4), Segment(9, 4, 6))
    with torch.inference_mode():
        expected = linear(rows)
        expected[0, 2:4] += rows[0, 2:4] @ down @ up
        assert torch.allclose(layer(rows), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"use_dora": True}, "use_dora"),
        ({"bias": "all"}, "bias"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"peft_type": "IA3"}, "peft_type"),
    ],
)
def test_other_kinds_of_adapters_are_refused(
    model: Path, layers: dict[str, AdaptedLinear], changes: dict[str, Any], word: str
) -> None:
    folder = write_adapter(model / "a", model, 0)
    change_settings(folder, **changes)
    with pytest.raises(BadRequest, match=word):
        read_adapter(folder, layers, 64)


def test_a_rank_above_the_limit_is_refused(model: Path, layers: dict[str, AdaptedLinear]) -> None:
    with pytest.raises(BadRequest, match="rank 16"):
        read_adapter(write_adapter(model / "a", model, 0), layers, 8)


def test_an_adapter_of_another_shape_is_refused(model: Path, layers: dict[str, AdaptedLinear], tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(CONFIG | {"intermediate_size": 48}))
    with pytest.raises(BadRequest, match="do not fit"):
        read_adapter(write_adapter(tmp_path / "a", other, 0), layers, 64)


def test_a_missing_or_broken_file_is_told(model: Path, layers: dict[str, AdaptedLinear]) -> None:
    with pytest.raises(NoSuchResource, match="does not exist"):
        read_adapter(model / "none", layers, 64)
    folder = write_adapter(model / "a", model, 0)
    (folder / "adapter_model.safetensors").write_bytes(b"no tensors")
    with pytest.raises(BadRequest, match="cannot be read"):
        read_adapter(folder, layers, 64)


def test_scaling_follows_peft() -> None:
    assert scaling_of("x.q_proj", 4, {"lora_alpha": 8}) == 2
    assert scaling_of("x.q_proj", 4, {"lora_alpha": 8, "use_rslora": True}) == 4
    assert scaling_of("x.q_proj", 4, {"lora_alpha": 8, "alpha_pattern": {"q_proj": 12}}) == 3
    assert scaling_of("x" * 5000, 4, {"lora_alpha": 8, "alpha_pattern": {"(x*)*" * 9 + "!": 12}}) == 2
    with pytest.raises(BadRequest, match="alpha_pattern has"):
        scaling_of("x.q_proj", 4, {"lora_alpha": 8, "alpha_pattern": {"(?=x)": 12}})


@pytest.mark.anyio
async def test_unloading_waits_for_the_last_user(model: Path, layers: dict[str, AdaptedLinear]) -> None:
    table = AdapterTable(layers, max_adapters=1, max_rank=64)
    path = str(write_adapter(model / "a", model, 0))
    await table.load("a", path)
    adapter = table.acquire("a")
    assert adapter is not None
    unloading = asyncio.create_task(table.unload("a"))
    await asyncio.sleep(0)
    assert table.acquire("a") is None
    assert not unloading.done()
    with pytest.raises(BadRequest, match="all 1 places"):
        await table.load("b", path)
    table.release(adapter)
    await unloading
    assert not any(layer.pairs for layer in layers.values())
    await table.load("b", path)


@pytest.mark.anyio
async def test_weights_stay_for_their_requests_though_nobody_waits_for_the_unloading(
    model: Path, layers: dict[str, AdaptedLinear]
) -> None:
    table = AdapterTable(layers, max_adapters=1, max_rank=64)
    path = str(write_adapter(model / "a", model, 0))
    await table.load("a", path)
    adapter = table.acquire("a")
    assert adapter is not None
    unloading = asyncio.create_task(table.unload("a"))
    await asyncio.sleep(0)
    unloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await unloading
    assert all(layer.pairs for layer in layers.values())
    with pytest.raises(BadRequest, match="all 1 places"):
        await table.load("b", path)
    table.release(adapter)
    assert not any(layer.pairs for layer in layers.values())
    await table.load("b", path)


@pytest.mark.anyio
async def test_a_request_that_fails_on_its_way_in_holds_nothing(model: Path, layers: dict[str, AdaptedLinear]) -> None:
    table = AdapterTable(layers, max_adapters=1, max_rank=64)
    await table.load("a", str(write_adapter(model / "a", model, 0)))
    metrics = EngineMetrics()
    stepper = Stepper(ModelRunner(loaded_of(layers)), Scheduler(1, 8), metrics, 1)
    limits = QueueLimits(base_name="base", batch=1, queue=0)
    intake = GenerationIntake(loaded_of(layers), table, stepper, metrics, limits)
    for _ in range(3):
        with pytest.raises(TypeError):
            intake.submit(demand_that_breaks())
    await asyncio.wait_for(table.unload("a"), 60)


def loaded_of(layers: dict[str, AdaptedLinear]) -> LoadedModel:
    return LoadedModel(
        model=nn.Identity(),
        codec=CODEC,
        template=ChatTemplate(None),
        layers=layers,
        segments=StepSegments(),
        end_tokens=frozenset(),
        vocabulary=10,
        context=16,
        cache_shape=CacheShape(layers=1, slots=1, heads=1, positions=16, head_size=8),
    )


def demand_that_breaks() -> GenerationDemand:
    request = GenerationRequest.model_construct(model="a")
    return GenerationDemand(
        request=request,
        prompts=[[1]],
        limit=None,
        default_limit=None,
        limit_param="max_tokens",
        prompt_param="prompt",
        top_logprobs=None,
        scores=[],
        constraints=None,
        text_stream=partial(TextStream, CODEC, cast("Any", None)),  # unchecked, as no checked request breaks
        is_copy=False,
    )


@pytest.mark.anyio
async def test_a_name_belongs_to_one_path(model: Path, layers: dict[str, AdaptedLinear]) -> None:
    table = AdapterTable(layers, max_adapters=2, max_rank=64)
    paths = [str(write_adapter(model / name, model, 0)) for name in "ab"]
    await table.load("a", paths[0])
    await table.load("a", paths[0])
    with pytest.raises(ApiError, match="already loaded"):
        await table.load("a", paths[1])
    with pytest.raises(NoSuchResource):
        await table.unload("b")
    assert [one.name for one in table.listing()] == ["a"]
