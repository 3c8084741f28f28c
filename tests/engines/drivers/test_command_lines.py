"""A command line has every setting that its kind honours; other settings are refused by name."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engines.catalog import ENVIRONMENTS, build_engine
from engines.drivers import lmdeploy, sglang, transformers, vllm
from engines.drivers.base_model import kv_memory_gib, kv_tokens, read_base_model
from engines.errors import AdapterLoadFailed, EnvironmentMissing, SettingRefused, UnknownEngine
from engines.kinds import Hardware, Precision
from engines.network.node_place import MeetingPoint, NodePlace
from engines.settings import EngineSettings
from tests.engines.quantized_folder import group_config

CONFIG = {
    "num_hidden_layers": 30,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "hidden_size": 576,
    "max_position_embeddings": 8192,
}
ARGUMENTS: dict[str, Callable[[EngineSettings], list[str]]] = {
    "transformers": lambda settings: transformers.server_arguments(settings, 1),
    "vllm": lambda settings: vllm.server_arguments(settings, 1),
    "sglang": lambda settings: sglang.server_arguments(settings, 1),
    "lmdeploy": lambda settings: lmdeploy.server_arguments(settings, 1, {}),
}


@pytest.fixture
def settings_of(tmp_path: Path) -> Callable[..., EngineSettings]:
    """Settings of one kind for a model of the bundled one's shape."""

    def make(kind: str, config: dict[str, Any] | None = None, **fields: Any) -> EngineSettings:
        (tmp_path / "config.json").write_text(json.dumps(CONFIG | (config or {})))
        interpreter = Path(sys.executable) if kind in ENVIRONMENTS else None
        known = {"kind": kind, "base_path": tmp_path, "base_name": "base", "log_path": tmp_path / "log"}
        return EngineSettings.model_validate({"interpreter": interpreter, **known, **fields})

    return make


def value_of(arguments: list[str], flag: str) -> str:
    return arguments[arguments.index(flag) + 1]


@pytest.mark.parametrize(
    ("kind", "fields"),
    [
        ("transformers", {"tensor_parallel": 2}),
        ("transformers", {"precision": Precision.BF16}),
        ("transformers", {"hardware": Hardware.NVIDIA}),
        ("transformers", {"kv_memory_gib": 1.0}),
        ("transformers", {"tool_call_parser": "hermes"}),
        ("transformers", {"reasoning_parser": "qwen3"}),
        ("transformers", {"interpreter": Path("/usr/bin/python3")}),
        ("vllm", {"max_queue": 3}),
        ("vllm", {"max_rank": 1024}),
        ("vllm", {"precision": Precision.FP8}),
        ("vllm", {"precision": Precision.INT4, "hardware": Hardware.NVIDIA}),
        ("vllm", {"pipeline_parallel": 2}),
        ("sglang", {"data_parallel": 2}),
        ("sglang", {"precision": Precision.INT4, "hardware": Hardware.NVIDIA}),
        ("lmdeploy", {"pipeline_parallel": 2}),
        ("lmdeploy", {"data_parallel": 2}),
        ("lmdeploy", {"batch_adapters": 2}),
        ("lmdeploy", {"max_queue": 3}),
        ("lmdeploy", {"precision": Precision.FP32, "hardware": Hardware.NVIDIA}),
        *((kind, {"extra_args": ("--port=9",)}) for kind in ("transformers", "vllm", "sglang")),
        ("lmdeploy", {"extra_args": ("--server-port", "9")}),
        ("lmdeploy", {"extra_args": ("--api-keys", "mine")}),
        *((kind, {"extra_args": ("--api_key=mine",)}) for kind in ("vllm", "sglang")),
    ],
)
def test_what_a_kind_cannot_honour_it_refuses_by_name(
    settings_of: Callable[..., EngineSettings], kind: str, fields: dict[str, Any]
) -> None:
    with pytest.raises(SettingRefused, match=next(iter(fields))):
        build_engine(settings_of(kind, **fields))


def test_parallel_flags_precision_and_extra_arguments_go_to_each_server(
    settings_of: Callable[..., EngineSettings],
) -> None:
    gpu = {"hardware": Hardware.NVIDIA, "precision": Precision.BF16, "tensor_parallel": 4, "extra_args": ("--seed=1",)}
    for kind, flag in (("vllm", "--tensor-parallel-size"), ("sglang", "--tp-size"), ("lmdeploy", "--tp")):
        arguments = ARGUMENTS[kind](settings_of(kind, **gpu))
        assert value_of(arguments, flag) == "4"
        assert value_of(arguments, "--dtype") == "bfloat16"
        assert arguments[-1] == "--seed=1"
    both = {"hardware": "nvidia", "pipeline_parallel": 2, "data_parallel": 3}
    arguments = ARGUMENTS["vllm"](settings_of("vllm", **both))
    assert value_of(arguments, "--pipeline-parallel-size") == "2"
    assert value_of(arguments, "--data-parallel-size") == "3"
    assert value_of(ARGUMENTS["sglang"](settings_of("sglang", pipeline_parallel=2)), "--pp-size") == "2"


def test_every_node_of_an_engine_gets_the_command_of_its_place(settings_of: Callable[..., EngineSettings]) -> None:
    settings = settings_of("vllm", hardware="nvidia", pipeline_parallel=2, extra_args=("--seed=1",))
    meeting = MeetingPoint(nodes=2, address="10.0.0.1", port=29500)
    places = [NodePlace(meeting=meeting, rank=rank, address=f"10.0.0.{rank + 1}", variables={}) for rank in range(2)]
    first = vllm.server_arguments(settings, 8001, places[0])
    further = vllm.rank_arguments(settings, places[1])
    for rank, arguments in enumerate((first, further)):
        flags = ("--nnodes", "--node-rank", "--master-addr", "--master-port", "--pipeline-parallel-size")
        assert [value_of(arguments, flag) for flag in flags] == ["2", str(rank), "10.0.0.1", "29500", "2"]
        assert arguments[-1] == "--seed=1"
    assert ("--headless" in first, "--headless" in further) == (False, True)
    alike = set(first) - {"vllm.entrypoints.openai.api_server", "8001"}
    assert alike <= set(further), "what one node computes with, all do"
    assert vllm.server_environment(settings, places[1])["VLLM_HOST_IP"] == "10.0.0.2"
    with pytest.raises(SettingRefused, match="cannot repeat --nnodes"):
        vllm.rank_arguments(settings_of("vllm", extra_args=("--nnodes=3",)), places[1])


def test_the_context_is_the_shorter_of_what_is_asked_and_what_the_model_can(
    settings_of: Callable[..., EngineSettings],
) -> None:
    for asked, given in ((4096, "4096"), (16384, "8192")):
        assert value_of(ARGUMENTS["vllm"](settings_of("vllm", max_context=asked)), "--max-model-len") == given
        assert value_of(ARGUMENTS["sglang"](settings_of("sglang", max_context=asked)), "--context-length") == given
        assert value_of(ARGUMENTS["lmdeploy"](settings_of("lmdeploy", max_context=asked)), "--session-len") == given


def test_the_same_memory_for_keys_and_values_is_bytes_tokens_or_blocks(
    settings_of: Callable[..., EngineSettings],
) -> None:
    # 2 (keys, values) x 30 layers x 3 heads x 64 numbers x 2 bytes = 23040 bytes a token; 1 GiB is 46603 of them,
    # and 46603 / 64 is 728.2 blocks.
    gpu = {"hardware": Hardware.NVIDIA, "kv_memory_gib": 1.0}
    assert value_of(ARGUMENTS["vllm"](settings_of("vllm", **gpu)), "--kv-cache-memory-bytes") == str(1024**3)
    assert value_of(ARGUMENTS["sglang"](settings_of("sglang", **gpu)), "--max-total-tokens") == "46603"
    assert value_of(ARGUMENTS["lmdeploy"](settings_of("lmdeploy", **gpu)), "--num-gpu-blocks") == "728"
    # Three devices hold one head each, in half the layers: 2 x 15 x 1 x 64 x 2 = 3840 bytes.
    shared = settings_of("sglang", **gpu, tensor_parallel=3, pipeline_parallel=2)
    assert value_of(ARGUMENTS["sglang"](shared), "--max-total-tokens") == str(1024**3 // 3840)


def test_on_a_cpu_there_is_room_for_a_full_batch_of_the_longest_sequences(
    settings_of: Callable[..., EngineSettings],
) -> None:
    settings = settings_of("vllm", max_batch=16, max_context=2048)
    base = read_base_model(settings)
    assert kv_tokens(settings, base) == 32768
    assert kv_memory_gib(settings, base) == pytest.approx(1.406, abs=1e-3)  # 32768 x 46080 bytes in fp32
    assert vllm.server_environment(settings)["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert kv_tokens(settings_of("vllm", hardware=Hardware.NVIDIA), base) is None


def test_a_model_with_an_encoder_beside_its_decoder_is_read_by_the_latters_sizes(
    settings_of: Callable[..., EngineSettings], tmp_path: Path
) -> None:
    settings = settings_of("vllm", max_adapters=0)
    whisper = {"decoder_layers": 4, "decoder_attention_heads": 6, "d_model": 384, "max_target_positions": 448}
    (tmp_path / "config.json").write_text(json.dumps(whisper))
    base = read_base_model(settings)
    assert (base.layers, base.key_heads, base.head_size, base.max_context) == (4, 6, 64, 448)


def test_memory_in_tokens_is_refused_for_models_that_keep_keys_in_another_form(
    settings_of: Callable[..., EngineSettings],
) -> None:
    deep = settings_of("sglang", {"kv_lora_rank": 512}, hardware=Hardware.NVIDIA, kv_memory_gib=1.0)
    with pytest.raises(SettingRefused, match="compressed keys"):
        build_engine(deep)


def test_vllm_reserves_the_next_legal_rank(settings_of: Callable[..., EngineSettings]) -> None:
    for rank, legal in ((1, "1"), (20, "32"), (64, "64"), (130, "256")):
        assert value_of(ARGUMENTS["vllm"](settings_of("vllm", max_rank=rank)), "--max-lora-rank") == legal


def test_the_base_model_counts_as_an_adapter_of_sglangs_batch(settings_of: Callable[..., EngineSettings]) -> None:
    arguments = ARGUMENTS["sglang"](settings_of("sglang", max_adapters=3))
    assert value_of(arguments, "--max-loras-per-batch") == "4"
    assert value_of(arguments, "--max-loaded-loras") == "4"


@pytest.mark.parametrize("kind", ["vllm", "sglang"])
def test_a_model_that_can_have_no_adapters_is_served_without_their_flags(
    settings_of: Callable[..., EngineSettings], kind: str
) -> None:
    some, none = (ARGUMENTS[kind](settings_of(kind, max_adapters=number)) for number in (1, 0))
    assert "--enable-lora" in some
    assert not any("lora" in word for word in none)


def test_int4_is_for_a_base_model_of_4_bit_weights(settings_of: Callable[..., EngineSettings]) -> None:
    quantized = {"quantization_config": {"quant_method": "awq", "bits": 4}}
    fields = {"hardware": Hardware.NVIDIA, "precision": Precision.INT4}
    for kind in ("vllm", "sglang", "lmdeploy"):
        build_engine(settings_of(kind, quantized, **fields))
        with pytest.raises(SettingRefused, match="int4"):
            build_engine(settings_of(kind, **fields))


def test_an_engine_without_its_environment_says_how_to_make_it(settings_of: Callable[..., EngineSettings]) -> None:
    for kind in ENVIRONMENTS:
        for interpreter in (None, Path("/nowhere/python")):
            with pytest.raises(EnvironmentMissing, match=f"lorry envs install {kind}"):
                build_engine(settings_of(kind, interpreter=interpreter))


def test_a_folder_that_is_no_model_is_refused(settings_of: Callable[..., EngineSettings], tmp_path: Path) -> None:
    for kind in ENVIRONMENTS:
        with pytest.raises(SettingRefused, match=r"config\.json"):
            build_engine(settings_of(kind, base_path=tmp_path / "none"))


def test_an_unknown_kind_lists_the_known_ones(tmp_path: Path) -> None:
    settings = EngineSettings(kind="steam", base_path=tmp_path, base_name="base", log_path=tmp_path / "log")
    with pytest.raises(UnknownEngine, match=r"lmdeploy.*transformers"):
        build_engine(settings)


def test_lmdeploy_takes_its_adapters_on_the_command_line_and_none_that_it_would_crash_on(
    settings_of: Callable[..., EngineSettings], make_adapter: Callable[..., Path]
) -> None:
    settings, good = settings_of("lmdeploy", max_rank=16), make_adapter(1)
    arguments = lmdeploy.server_arguments(settings, 1, {"one@1": good, "two@1": good})
    assert arguments[-3:] == ["--adapters", f"one@1={good}", f"two@1={good}"]
    for adapter, why in (
        (make_adapter(2, corda_config=None), "corda_config"),
        (make_adapter(3, rank=32), "rank 32"),
        (good / "none", "does not exist"),
    ):
        with pytest.raises(AdapterLoadFailed, match=f"bad@1.*{why}"):
            build_engine(settings, {"one@1": good, "bad@1": adapter})
    turbomind = {"hardware": Hardware.NVIDIA, "extra_args": ("--backend", "turbomind", "--model-format", "awq")}
    assert ARGUMENTS["lmdeploy"](settings_of("lmdeploy", **turbomind)).count("--backend") == 1
    with pytest.raises(SettingRefused, match="TurboMind"):
        build_engine(settings_of("lmdeploy", **turbomind), {"one@1": good})
    with pytest.raises(SettingRefused, match="ascend"):
        build_engine(settings_of("lmdeploy", hardware=Hardware.ASCEND), {"one@1": good})


def test_vllm_on_a_cpu_computes_eight_bit_activations_in_bf16(settings_of: Callable[..., EngineSettings]) -> None:
    eight = {"quantization_config": group_config(8, rounds_inputs=True)}
    assert value_of(vllm.server_arguments(settings_of("vllm", eight, max_adapters=0), 1), "--dtype") == "bfloat16"
    with pytest.raises(SettingRefused, match="precision = fp32 with w8a8-int8 weights on a CPU, only bf16"):
        vllm.server_arguments(settings_of("vllm", eight, max_adapters=0, precision=Precision.FP32), 1)
    assert value_of(vllm.server_arguments(settings_of("vllm"), 1), "--dtype") == "float32"
