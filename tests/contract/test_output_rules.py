"""Our own server gives answers the form that the request prescribes."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal

import jsonschema
import pytest
from openai import OpenAI
from pydantic import BaseModel

from engines.address import key_of, shown_address
from tests.contract.engine_host import EngineHost
from tests.contract.kinds import OWN

pytestmark = pytest.mark.parametrize("kind", OWN, indirect=True)

CITY = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 20},
        "country": {"enum": ["France", "Spain"]},
        "is_capital": {"type": "boolean"},
    },
    "required": ["city", "country", "is_capital"],
    "additionalProperties": False,
}
AS_CITY = {"type": "json_schema", "json_schema": {"name": "city", "schema": CITY, "strict": True}}


class City(BaseModel):
    """The class that the SDK is to parse the answer into."""

    city: str
    country: Literal["France", "Spain"]


@pytest.mark.parametrize("temperature", [0, 1.5])
@pytest.mark.parametrize("model", ["base", "one@1"])
def test_answers_are_valid_by_their_schema_whole_streamed_and_several(
    host: EngineHost, model: str, temperature: float
) -> None:
    fields: dict[str, Any] = {"model": model, "temperature": temperature, "max_tokens": 200, "response_format": AS_CITY}
    body = host.chat("Paris?", n=2, seed=1, **fields)
    for choice in body["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), CITY)
        assert choice["finish_reason"] == "stop"
    chunks = host.streamed("/v1/chat/completions", host.body("Paris?", seed=1, **fields))
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert text == body["choices"][0]["message"]["content"]


def test_the_sdk_parses_an_answer_into_a_type(host: EngineHost) -> None:
    client: Any = OpenAI(
        base_url=f"{shown_address(host.engine.base_url)}/v1", api_key=key_of(host.engine.base_url) or "none"
    )
    with client:
        messages = [{"role": "user", "content": "What is the capital of France?"}]
        answer = client.chat.completions.parse(model="base", messages=messages, response_format=City, max_tokens=200)
    assert isinstance(answer.choices[0].message.parsed, City)


def test_an_object_a_choice_and_a_pattern_are_kept_to_in_both_kinds_of_completion(host: EngineHost) -> None:
    whole = host.chat(response_format={"type": "json_object"}, max_tokens=300, temperature=1, seed=4)["choices"][0]
    assert whole["finish_reason"] == "length" or isinstance(json.loads(whole["message"]["content"]), dict)
    chosen = host.chat(structured_outputs={"choice": ["Berlin", "Rome"]})["choices"][0]["message"]["content"]
    assert chosen in ("Berlin", "Rome")
    body = {"model": "base", "prompt": ["One, two,", "A, b,"], "guided_regex": "[0-9]{3}(-[0-9]{2}){2}", "seed": 1}
    for choice in host.http.post("/v1/completions", json=body).json()["choices"]:
        assert re.fullmatch("[0-9]{3}(-[0-9]{2}){2}", choice["text"])


def test_a_limit_ends_an_answer_in_the_middle_of_its_form(host: EngineHost) -> None:
    choice = host.chat(response_format=AS_CITY, max_tokens=4)["choices"][0]
    assert choice["finish_reason"] == "length"
    assert choice["message"]["content"].startswith("{")


def test_an_answer_ends_where_its_form_does_although_the_end_token_is_ignored(host: EngineHost) -> None:
    choice = host.chat(guided_choice=["yes", "no"], ignore_eos=True, max_tokens=50)["choices"][0]
    assert (choice["finish_reason"], choice["message"]["content"] in ("yes", "no")) == ("stop", True)


def test_free_answers_beside_bound_ones_stay_as_they_are_alone(host: EngineHost) -> None:
    alone = host.chat()["choices"][0]["message"]["content"]
    with ThreadPoolExecutor(8) as clients:
        bound = [clients.submit(host.chat, response_format=AS_CITY, max_tokens=200) for _ in range(4)]
        free = [clients.submit(host.chat) for _ in range(4)]
    assert {each.result()["choices"][0]["message"]["content"] for each in free} == {alone}
    for each in bound:
        jsonschema.validate(json.loads(each.result()["choices"][0]["message"]["content"]), CITY)


def test_logprobs_are_the_models_own_under_a_rule_too(host: EngineHost) -> None:
    bound = host.chat(guided_choice=["Rome"], logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"][0]
    free = host.chat(logprobs=True, top_logprobs=1)["choices"][0]["logprobs"]["content"][0]
    assert bound["token"] == "Rome"
    assert bound["top_logprobs"] == free["top_logprobs"]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}}, "schema"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_grammar": "no rule"}, "guided_grammar"),
        ({"guided_json": {"$ref": "#/$defs/absent"}}, "guided_json"),
    ],
)
def test_a_form_that_cannot_be_enforced_is_refused_by_name(
    host: EngineHost, fields: dict[str, Any], param: str
) -> None:
    answer = host.http.post("/v1/chat/completions", json=host.body(**fields))
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["param"].endswith(param)
    assert "cannot be enforced" in error["message"]
