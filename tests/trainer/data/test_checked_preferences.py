"""Whatever line of a preference the check passes, every method that learns from such lines can train on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.contracts.job_kinds import FINE_TUNING_METHODS
from registry.contracts.training_formats import check_training_lines
from registry.errors import TrainingFileInvalid
from tests.trainer.data.test_checked_rows import TEMPLATES, TEXTS, lines_of, messages_of
from tests.trainer.tiny_base import save_tokenizer
from trainer.data.dataset import ChatEncoder
from trainer.data.encoded_row import IGNORED
from trainer.recipes.dpo import DpoObjective
from trainer.recipes.kto import KtoObjective
from trainer.recipes.reward import RewardObjective
from trainer.training.objective import Objective

PROPERTY: Final = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def preferences_of(draw: st.DrawFn, *, with_tools: bool) -> dict[str, bytes]:
    """A pair, and a rated chat of its preferred answer."""
    chat: dict[str, Any] = json.loads(draw(lines_of(with_tools=with_tools)).decode("utf-8", "surrogatepass"))
    *prompt, answer = chat.pop("messages")
    between = draw(st.lists(messages_of(with_tools=with_tools), max_size=2)) if with_tools else []
    fields = {name: value for name, value in chat.items() if value is not None}
    pair = {
        "input": {"messages": prompt, **fields},
        "preferred_output": [*between, answer],
        "non_preferred_output": [{"role": "assistant", "content": draw(TEXTS)}],
    }
    rated = {"messages": [*prompt, answer], "label": draw(st.booleans()), **fields}
    return {name: json.dumps(line).encode() + b"\n" for name, line in (("pair", pair), ("rated", rated))}


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A folder with each template."""
    made = {name: tmp_path_factory.mktemp(f"preferences-{name}") for name in TEMPLATES}
    for name, folder in made.items():
        save_tokenizer(folder, TEMPLATES[name])
    return made


def objectives(folder: Path, kind: str) -> list[Objective[Any]]:
    """The methods that read lines of *kind*; ORPO and SimPO read them as DPO does."""
    encoder = ChatEncoder(folder)
    fields: Mapping[str, Any] = {"base": "b", "base_digest": "d", "adapter": "a", "training_file": "f", "n_epochs": 1}
    more: Mapping[str, Any] = {"batch_size": 2, "learning_rate": 1e-3, "seed": 1, "max_length": 20_000}
    specs: dict[str, Any] = {name: FINE_TUNING_METHODS[name](**fields, **more) for name in ("dpo", "reward", "kto")}
    if kind == "rated":
        return [KtoObjective(encoder, specs["kto"], lambda _: None)]
    return [DpoObjective(encoder, specs["dpo"]), RewardObjective(encoder, specs["reward"])]


@pytest.mark.long
@pytest.mark.parametrize("name", TEMPLATES)
@PROPERTY
@given(data=st.data())
def test_what_the_check_passes_can_be_trained_on(
    folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    for kind, line in data.draw(preferences_of(with_tools=True)).items():
        for objective in objectives(folders[name], kind):
            try:
                check_training_lines(BytesIO(line * 10), objective.formats)
            except TrainingFileInvalid as exc:
                assert str(exc).startswith("line "), exc
                continue
            path = tmp_path_factory.getbasetemp() / f"{name}-{kind}.jsonl"
            path.write_bytes(line * 2)
            rows = objective.read_rows(path, "training_file")
            for reason in objective.unfit_rows("training_file").reasons:
                assert name == "thinks" and b'"user"' not in line, reason
                assert reason.example.startswith("line 1: the base model's chat template refuses it: no user query")
            if not rows:
                continue
            batch = objective.collate(rows)
            assert objective.count_items([batch]) == 2
            learnt = (batch["labels"] != IGNORED).sum()
            assert learnt >= batch["answer_of_row"].max() + 1, "every answer has something to learn"
            assert objective.probe_prompts(path, 4) is not None
