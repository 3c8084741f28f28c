"""An engine that has no parser for the model's tool calls refuses tools in words that name the flag."""

from __future__ import annotations

from typing import Any

import pytest

from tests.contract.engine_host import EngineHost
from tests.contract.kinds import CASES

CLOCK: dict[str, Any] = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize("kind", [CASES["vllm"], CASES["lmdeploy"]], indirect=True)
@pytest.mark.parametrize("choice", ["auto", "required", {"type": "function", "function": {"name": "get_time"}}])
def test_tools_are_refused_where_nothing_would_read_the_calls(host: EngineHost, choice: Any) -> None:
    body = host.body(tools=[CLOCK], tool_choice=choice)
    answer = host.http.post("/v1/chat/completions", json=body)
    assert answer.status_code == 400
    assert "--tool-call-parser" in answer.text
    assert host.chat(tools=[CLOCK], tool_choice="none")["choices"][0]["message"]["content"]
