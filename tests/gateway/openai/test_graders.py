"""The endpoints that validate and run graders answer as OpenAI's do, strictly by the types of its client."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from openai.types.fine_tuning.alpha import GraderRunResponse, GraderValidateResponse

from gateway.settings import GatewaySettings
from registry.database import Registry
from registry.types import Base
from tests.gateway.sdk import sdk
from tests.gateway.served import ServedGateway
from tests.registry.contracts.graders.test_grader_kinds import CHECK, SCORE, multi

CODE = {"type": "python", "name": "code", "source": "def grade(sample, item):\n    return item['worth']"}


@pytest.fixture
def client(sqlite_registry: Registry, base: Base) -> Iterator[openai.OpenAI]:
    """A client of a gateway over a base model that no replica serves."""
    sqlite_registry.bases.enter(base)
    settings = GatewaySettings(replica_wait_s=0.2)
    with (
        ServedGateway(settings, sqlite_registry) as gateway,
        sdk(gateway.url) as client,
    ):
        yield client


def run(client: openai.OpenAI, grader: Mapping[str, Any], output: str, item: object) -> GraderRunResponse:
    raw = client.fine_tuning.alpha.graders.with_raw_response.run(
        grader=grader,  # type: ignore[arg-type]
        model_sample=output,
        item=item,
    )
    return GraderRunResponse.model_validate(raw.http_response.json(), strict=True)


def test_a_run_answers_with_the_reward_and_every_flag(client: openai.OpenAI) -> None:
    answer = run(client, CHECK, "Paris", {"answer": "Paris"})
    assert (answer.reward, answer.metadata.name, answer.metadata.type) == (1.0, "exact", "string_check")
    assert not any(value for name, value in answer.metadata.errors if name.endswith("_error"))


def test_a_run_of_a_multi_grader_shows_its_parts(client: openai.OpenAI) -> None:
    answer = run(client, multi("right + worth", right=CHECK, worth=CODE), "Paris", {"answer": "Paris", "worth": 3})
    assert (answer.reward, answer.sub_rewards) == (4.0, {"right": 1.0, "worth": 3.0})


def test_a_run_that_fails_has_reward_0_and_the_reason(client: openai.OpenAI) -> None:
    answer = run(client, CODE, "Paris", {})
    assert (answer.reward, answer.metadata.errors.python_grader_runtime_error) == (0.0, True)
    assert answer.metadata.errors.python_grader_runtime_error_details == "KeyError: 'worth' (line 2 of the source)"
    assert run(client, CHECK, "Paris", {}).metadata.errors.invalid_variable_error


def test_a_model_grader_asks_through_the_gateway_and_reports_its_refusal(client: openai.OpenAI) -> None:
    answer = run(client, SCORE, "Paris", {})
    assert answer.metadata.errors.api_model_grader_server_error
    assert "503" in (answer.metadata.errors.api_model_grader_server_error_details or "")


@pytest.mark.parametrize("grader", [CHECK, CODE, SCORE, {**multi("exact"), "graders": dict(CHECK)}])
def test_a_valid_grader_comes_back_as_it_went(client: openai.OpenAI, grader: Mapping[str, Any]) -> None:
    raw = client.fine_tuning.alpha.graders.with_raw_response.validate(grader=grader)  # type: ignore[arg-type]
    assert GraderValidateResponse.model_validate(raw.http_response.json(), strict=True).grader is not None
    assert raw.http_response.json() == {"grader": grader}


@pytest.mark.parametrize(
    ("grader", "param", "said"),
    [
        ({**CHECK, "operation": "is"}, "grader.operation", "must be eq, ne, like or ilike"),
        ({**CODE, "source": "def grade(:"}, "grader.source", "SyntaxError"),
        (multi("a", a={**CODE, "source": "x = 1"}), "grader.graders.a.source", "no function grade"),
        ({**SCORE, "model": "gpt-4o"}, "grader.model", "does not exist"),
        ({}, "grader.type", "is missing"),
    ],
)
def test_a_wrong_grader_is_refused_by_its_field(
    client: openai.OpenAI, grader: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        client.fine_tuning.alpha.graders.validate(grader=grader)  # type: ignore[arg-type]
    assert (refused.value.param, said in refused.value.message) == (param, True), refused.value.message


def create(client: openai.OpenAI, grader: Mapping[str, Any], **hyperparameters: Any) -> FineTuningJob:
    rows = [{"messages": [{"role": "user", "content": f"q{at}"}], "answer": "Paris"} for at in range(10)]
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    file = client.files.create(file=("prompts.jsonl", content), purpose="fine-tune")
    shape = {"lora_rank": 2, "target_modules": ["q_proj", "v_proj"]}
    method: Any = {"grader": grader, "hyperparameters": {**shape, **hyperparameters}}
    raw = client.fine_tuning.jobs.with_raw_response.create(
        model="tiny", training_file=file.id, method={"type": "reinforcement", "reinforcement": method}
    )
    return FineTuningJob.model_validate(raw.http_response.json(), strict=True)


def test_a_job_with_a_grader_is_queued_and_shows_it(client: openai.OpenAI) -> None:
    job = create(client, CHECK, n_epochs=1, eval_interval="auto", compute_multiplier=0.5)
    assert job.status == "queued"
    assert job.method is not None
    assert job.method.reinforcement is not None
    assert job.method.reinforcement.grader.name == "exact"
    assert job.method.reinforcement.hyperparameters is not None
    assert job.method.reinforcement.hyperparameters.compute_multiplier == 0.5


@pytest.mark.parametrize(
    ("grader", "param", "said"),
    [
        ({**CHECK, "operation": "is"}, "method.reinforcement.grader", "grader.operation: "),
        ({**CODE, "source": "x = 1"}, "method.reinforcement.grader.source", "no function grade"),
        ({**SCORE, "model": "gpt-4o"}, "method.reinforcement.grader.model", "does not exist"),
        ({"type": "reward_model", "model": "helpful@3"}, "method.reinforcement.grader.model", "no reward model"),
    ],
)
def test_a_job_with_a_wrong_grader_is_refused(
    client: openai.OpenAI, grader: dict[str, Any], param: str, said: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, grader)
    assert (refused.value.param, said in refused.value.message) == (param, True), refused.value.message
