"""The page about GPU boxes shows what Lorry's own choice gives on such machines, and settings that the loader takes."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from engines.errors import DoesNotFit
from engines.hardware.choice import choose, engine_defaults
from engines.hardware.machine import Machine
from engines.hardware.wishes import Wishes
from engines.settings import EngineSettings
from gateway.engines_settings import engines_settings
from tests.engines.hardware.machines import MACHINES, SEVEN_B, THIRTY_TWO_B
from tests.pages import ROOT, blocks

PAGE: Final = ROOT / "docs" / "guides" / "gpu.md"
NAMED: Final = {
    "A10 (24 GB)": MACHINES["A10"],
    "A100 (40 GB)": MACHINES["A100-40"],
    "A100 (80 GB)": MACHINES["A100-80"],
    "two A100 (80 GB)": MACHINES["2xA100-80"],
}
MODELS: Final = {"7B": SEVEN_B, "32B": THIRTY_TWO_B}
ROW: Final = re.compile(r"^\| ((?:two )?A10.*?) \| (\d+B) \| (.*) \|$", re.MULTILINE)
BLOCKS: Final = (("A10 (24 GB)", "7B"), ("A100 (80 GB)", "7B"), ("two A100 (80 GB)", "32B"))
"""The machine and the model of each block of settings, in their order."""


def chosen(machine: Machine, model: str) -> dict[str, Any]:
    return engine_defaults(choose(machine, MODELS[model], Wishes()))


def test_the_table_is_what_doctor_chooses() -> None:
    rows = ROW.findall(PAGE.read_text())
    assert len(rows) == 6
    for machine, model, cells in rows:
        if cells.startswith("refused"):
            with pytest.raises(DoesNotFit) as refusal:
                chosen(NAMED[machine], model)
            needed, left = re.findall(r"[\d.]+ GB", cells)
            assert f"{needed} of weights in bf16" in str(refusal.value)
            assert f"leave {left}" in str(refusal.value)
            continue
        fields = chosen(NAMED[machine], model)
        sizes = [fields[name] for name in ("tensor_parallel", "max_context", "max_batch", "max_adapters")]
        assert [int(cell) for cell in cells.split(" | ")] == sizes


def test_the_reasons_are_those_of_doctor() -> None:
    (shown,) = (block.text for block in blocks(PAGE) if block.language == "text")
    reasons = choose(NAMED["A10 (24 GB)"], SEVEN_B, Wishes()).reasons
    assert [line.split(maxsplit=1)[1] for line in shown.splitlines()] == list(reasons)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_settings_are_those_of_the_choice(number: int) -> None:
    settings = [block for block in blocks(PAGE) if block.language == "toml"]
    assert len(settings) == len(BLOCKS)
    (pool,) = engines_settings(tomllib.loads(settings[number].text)["engines"], {}).pools
    machine, model = BLOCKS[number]
    known = {"base_path": Path("/m"), "base_name": "m", "log_path": Path("/l"), "kind": pool.kind}
    written = EngineSettings.model_validate(pool.engine | known)
    assert written.start_timeout_s > EngineSettings.model_fields["start_timeout_s"].default
    fields = chosen(NAMED[machine], model) | {"start_timeout_s": written.start_timeout_s}
    assert written == EngineSettings.model_validate(known | fields)
