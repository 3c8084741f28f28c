"""Load figures are read from the servers' own metrics."""

from __future__ import annotations

import pytest

from engines.catalog import ENGINES, load_reader
from engines.drivers.vllm import LOAD, adapters_in_use
from engines.errors import EngineUnreachable
from engines.load import EngineLoad, LoadMetrics, load_of

NAMES = LoadMetrics(running="e:running", waiting="e:waiting")
TWO_RANKS = """\
# TYPE e:running gauge
e:running{rank="0"} 2.0
e:running{rank="1"} 3.0
e:running_else 99.0
e:waiting{rank="0",name="a b\\"} 5"} 1.0
e:waiting{rank="1"} 0.0
"""
VLLM = """\
vllm:num_requests_running{engine="0"} 1.0
vllm:num_requests_waiting{engine="0"} 1.0
vllm:lora_requests_info{max_lora="3",running_lora_adapters="old@1",waiting_lora_adapters=""} 1.0e+09
vllm:lora_requests_info{max_lora="3",running_lora_adapters="one@1,two@1",waiting_lora_adapters="six@6"} 1.5e+09
"""


def test_counts_of_several_ranks_add_up() -> None:
    assert load_of(TWO_RANKS, NAMES) == EngineLoad(running=5, waiting=1)


def test_a_gauge_that_is_missing_is_named() -> None:
    with pytest.raises(EngineUnreachable, match="e:waiting"):
        load_of(TWO_RANKS.replace("e:waiting", "e:wait"), NAMES)


def test_vllms_adapters_in_use_are_those_it_noted_last() -> None:
    assert adapters_in_use(VLLM) == {"one@1", "two@1", "six@6"}


def test_an_idle_vllm_uses_no_adapter_whatever_it_noted_last() -> None:
    idle = VLLM.replace('running{engine="0"} 1.0', 'running{engine="0"} 0.0')
    assert load_of(idle, LOAD).waiting == 1
    assert adapters_in_use(idle.replace('waiting{engine="0"} 1.0', 'waiting{engine="0"} 0.0')) == frozenset()


def test_vllms_load_is_in_its_metrics() -> None:
    assert ENGINES["vllm"].load.path == "/metrics"
    assert load_reader("vllm")(VLLM) == EngineLoad(running=1, waiting=1)


def test_sglangs_schedulers_add_up() -> None:
    ranks = (
        b'{"loads": [{"num_running_reqs": 2, "num_waiting_reqs": 0, "token_usage": 0.1},'
        b' {"num_running_reqs": 1, "num_waiting_reqs": 4, "token_usage": 0.3}]}'
    )
    assert ENGINES["sglang"].load.path.startswith("/v1/loads")
    assert load_reader("sglang")(ranks.decode()) == EngineLoad(running=3, waiting=4)


@pytest.mark.parametrize("body", ["", "{}", "[]", '{"loads": []}', '{"loads": [{}]}', "404 page not found"])
def test_what_is_no_load_is_not_taken_for_an_idle_engine(body: str) -> None:
    for kind in ENGINES:
        with pytest.raises(EngineUnreachable):
            load_reader(kind)(body)
