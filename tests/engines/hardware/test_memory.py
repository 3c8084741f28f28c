"""The memory of a model equals sums done by hand."""

from __future__ import annotations

from dataclasses import replace

from engines.hardware.memory import kv_bytes_per_token, slot_bytes, weight_bytes
from engines.kinds import Precision
from tests.engines.hardware.machines import HALF_B, MIXTURE, SEVEN_B, SEVENTY_TWO_B, SEVENTY_TWO_B_AWQ

BF16 = Precision.BF16


def test_weights_are_parameters_times_bytes() -> None:
    assert weight_bytes(SEVENTY_TWO_B, BF16) == 145_412_407_296  # 72.706 billion x 2
    assert weight_bytes(SEVENTY_TWO_B, Precision.FP32) == 290_824_814_592  # x 4
    assert weight_bytes(MIXTURE, BF16) == 61_064_245_248  # all 128 experts are in memory, though 8 compute


def test_in_fp8_embedding_and_output_layer_keep_two_bytes() -> None:
    # 7,615,616,512 parameters, of them 2 x 152,064 x 3,584 = 1,089,994,752 in embedding and output layer:
    # (7,615,616,512 - 1,089,994,752) x 1 + 1,089,994,752 x 2
    assert weight_bytes(SEVEN_B, Precision.FP8) == 8_705_611_264
    # Tied: 494,032,768 + 151,936 x 896 = 494,032,768 + 136,134,656
    assert weight_bytes(HALF_B, Precision.FP8) == 630_167_424


def test_a_quantized_checkpoint_takes_what_it_is_stored_in() -> None:
    assert weight_bytes(SEVENTY_TWO_B_AWQ, Precision.INT4) == 41_600_000_000


def test_a_token_takes_two_vectors_of_every_head_of_keys_in_every_layer() -> None:
    assert kv_bytes_per_token(SEVEN_B, BF16) == 57_344  # 2 x 28 layers x 4 heads x 128 x 2 bytes
    assert kv_bytes_per_token(SEVEN_B, Precision.FP32) == 114_688  # x 4 bytes
    assert kv_bytes_per_token(MIXTURE, BF16) == 98_304  # 2 x 48 x 4 x 128 x 2: experts keep nothing
    assert kv_bytes_per_token(SEVENTY_TWO_B, BF16) == 327_680  # 2 x 80 x 8 x 128 x 2
    assert kv_bytes_per_token(SEVENTY_TWO_B, BF16, devices=4) == 81_920  # 2 of the 8 heads each
    assert kv_bytes_per_token(SEVENTY_TWO_B, BF16, devices=16) == 40_960  # one head each, on two devices


def test_latent_keys_and_values_are_one_vector_a_layer() -> None:
    # DeepSeek-V3: 61 layers x (512 + 64) x 2 bytes, the same on every device
    latent = replace(SEVENTY_TWO_B, layers=61, attention_layers=61, latent_kv=576)
    assert kv_bytes_per_token(latent, BF16) == kv_bytes_per_token(latent, BF16, devices=8) == 70_272


def test_layers_without_attention_keep_no_keys() -> None:
    assert kv_bytes_per_token(replace(SEVEN_B, attention_layers=7), BF16) == 14_336  # a quarter of 57,344


def test_an_adapter_takes_rank_times_both_widths_of_every_linear_layer() -> None:
    # q, o: 3,584 + 3,584 each; k, v: 3,584 + 4 x 128 each; gate, up, down: 3,584 + 18,944 each
    # = 2 x 7,168 + 2 x 4,096 + 3 x 22,528 = 90,112; x 64 x 28 layers x 2 bytes
    assert slot_bytes(SEVEN_B, 64, BF16) == 322_961_408
    assert slot_bytes(SEVEN_B, 16, BF16) == 80_740_352


def test_an_adapter_of_a_mixture_has_a_part_for_every_expert() -> None:
    # q, o: 2,048 + 4,096 each; k, v: 2,048 + 512 each; 128 x 3 x (2,048 + 768)
    # = 12,288 + 5,120 + 1,081,344 = 1,098,752; x 64 x 48 x 2
    assert slot_bytes(MIXTURE, 64, BF16) == 6_750_732_288


def test_devices_that_share_a_layer_share_one_of_an_adapters_two_matrices() -> None:
    # On each of 4: q, o: 8,192 + 2,048; k, v: 8,192 + 256; gate, up, down: 8,192 + 7,392
    # = 20,480 + 16,896 + 46,752 = 84,128; x 64 x 80 x 2
    assert slot_bytes(SEVENTY_TWO_B, 64, BF16, devices=4) == 861_470_720
