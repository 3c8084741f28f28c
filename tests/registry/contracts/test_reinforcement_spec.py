"""A caller's request for reinforcement becomes a spec with every value, and what cannot be done is refused by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from registry.contracts.job_kinds import FINE_TUNING_METHODS, spec_from
from registry.contracts.methods.reinforcement_spec import ReinforcementOptions, ReinforcementSpec
from registry.contracts.prompt_lines import parse_prompt_line
from registry.contracts.training_formats import PROMPTS, read_lines
from registry.errors import TrainingFileInvalid
from tests.registry.contracts.graders.test_grader_kinds import CHECK


def resolved(rows: int = 40, **hyperparameters: Any) -> Mapping[str, Any]:
    options = ReinforcementOptions.model_validate({"grader": CHECK, "hyperparameters": hyperparameters})
    return ReinforcementSpec.resolve(options, rows)


def spec(**hyperparameters: Any) -> ReinforcementSpec:
    return ReinforcementSpec(
        base="tiny", base_digest="0", adapter="a", training_file="f", seed=1, **resolved(**hyperparameters)
    )


def test_auto_samples_eight_outputs_of_four_prompts() -> None:
    found = spec()
    assert (found.batch_size, found.group_size, found.n_epochs, found.beta) == (4, 8, 4, 0.04)
    assert spec(algorithm="rloo").beta == 0.05
    assert spec(beta=0).beta == 0


def test_the_compute_multiplier_multiplies_the_outputs() -> None:
    assert [spec(compute_multiplier=each).group_size for each in (0.1, 0.5, 2)] == [2, 4, 16]
    assert spec(compute_multiplier="auto", group_size=3).group_size == 3


def test_a_batch_has_at_most_every_row_once() -> None:
    found = spec(batch_size=256)
    assert found.batch_size == 40
    assert "The batch_size 256 became 40, the number of rows" in found.remarks()


def test_openais_object_shows_the_grader_as_it_was_given() -> None:
    facts = spec(eval_interval=3).fine_tune_facts()
    assert facts.method["reinforcement"]["grader"] == CHECK
    assert facts.hyperparameters["eval_interval"] == 3
    assert facts.hyperparameters["reasoning_effort"] == "default"


@pytest.mark.parametrize("method", ["reinforcement", "ppo"])
def test_a_spec_comes_back_from_json(method: str) -> None:
    kind = FINE_TUNING_METHODS[method]
    options = kind.options_as.model_validate({"grader": CHECK})
    made = kind(base="tiny", base_digest="0", adapter="a", training_file="f", seed=1, **kind.resolve(options, 20))
    assert spec_from(made.model_dump(mode="json")) == made


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"reasoning_effort": "high"}, "no levels of reasoning"),
        ({"epsilon": 0.1}, "with iterations 1 there are none"),
        ({"algorithm": "rloo", "loss_type": "dapo"}, "belongs to the algorithm grpo"),
        ({"algorithm": "reinforce"}, "'grpo' or 'rloo'"),
        ({"group_size": 1}, "greater than or equal to 2"),
        ({"num_generations": 4}, "unknown field num_generations"),
    ],
)
def test_a_hyperparameter_that_would_do_nothing_is_refused(fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        resolved(**fields)


def test_a_response_format_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValidationError, match=r"sample\.output_json"):
        ReinforcementOptions.model_validate({"grader": CHECK, "response_format": {"type": "json_object"}})


def test_all_fields_of_a_line_are_its_item_whatever_their_names() -> None:
    line = b'{"messages": [{"role": "user", "content": "q"}], "label": "x", "prompt": 1, "answer": [1]}'
    (row,) = read_lines([line], (PROMPTS,))
    assert (row.item["label"], row.item["prompt"], row.item["answer"]) == ("x", 1, [1])
    assert row.item["messages"][0]["content"] == "q"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"answer": 1}, "line 3: messages is missing"),
        ({"messages": [{"role": "user", "content": "q"}], "tools": []}, "line 3: tools: outputs are text"),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
            r"messages\[1\].role is assistant; the last message must be from the user",
        ),
    ],
)
def test_a_line_that_is_no_prompt_is_refused(fields: Mapping[str, Any], said: str) -> None:
    with pytest.raises(TrainingFileInvalid, match=said):
        parse_prompt_line(fields, 3)
