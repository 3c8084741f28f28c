"""`examples/traffic.py` sends conversations of their own users, says who answered, and refuses what it cannot use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from registry.rollouts.tally import Side
from tests.gateway.rollouts.rollout_scene import RolloutScene
from tests.stub_engine import Script, answer, by_model

TRAFFIC = Path(__file__).parents[3] / "examples" / "traffic.py"


def says(number: int, text: str) -> Script:
    """A script that answers a chat as `support@NUMBER`."""
    message = {"role": "assistant", "content": text}
    chat = {
        "id": f"chatcmpl-{number}",
        "object": "chat.completion",
        "created": 1,
        "model": f"support@{number}",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
    }
    return answer(200, json.dumps(chat).encode())


@pytest.mark.long
def test_conversations_are_spread_over_both_sides_and_rated(scene: RolloutScene) -> None:
    scene.add_replica(by_model(r1=says(1, "Send it back."), r2=says(2, "[ticket: returns]")))
    url = f"http://127.0.0.1:{scene.serve().port}/v1"
    rollout = scene.start(50)
    command = [sys.executable, str(TRAFFIC), "--model", "support", "--url", url, "--rate", "200"]
    command += ["--conversations", "30", "--good", "ticket:"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LORRY_")}
    told = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "in all 30 answers" in told.stdout
    canary = scene.counted(rollout, Side.CANARY, 1).requests
    assert f"support@2 {canary}" in told.stdout
    assert f"{canary} of 30 rated good" in told.stdout


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--rate", "0"), "'0' is not a number above 0"),
        (("--for", "10"), "'10' is not a time such as 90s, 10m or 1h"),
        (("--good", "("), "is not a regular expression"),
        (("--prompts", "/nowhere.jsonl"), "cannot be read"),
    ],
)
def test_what_it_cannot_use_is_named(
    words: tuple[str, str], why: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spec = spec_from_file_location("traffic", TRAFFIC)
    assert spec is not None
    assert spec.loader is not None
    program = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "traffic", program)
    spec.loader.exec_module(program)
    monkeypatch.setattr(sys, "argv", ["traffic.py", "--model", "support", *words])
    with pytest.raises(SystemExit) as ended:
        program.parse()
    told = capsys.readouterr().err
    assert ended.value.code == 2
    assert words[0] in told
    assert why in told
