"""Files, models and fine-tuning jobs work through the real OpenAI client; no training runs here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import openai
import pytest
from openai.types.fine_tuning import FineTuningJob
from starlette.testclient import TestClient

from gateway.app import build_app, build_gateway
from gateway.settings import GatewaySettings
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.database import Registry
from registry.publishing.publish import publish
from registry.rollouts.guardrails import GuardrailPlan
from registry.rollouts.rollout import RolloutPlan
from registry.types import Base, RevisionDraft
from tests.gateway.replica_rows import replica_row

ROWS = [
    {"messages": [{"role": "user", "content": f"question {n}"}, {"role": "assistant", "content": f"answer {n}"}]}
    for n in range(10)
]


@pytest.fixture
def http(sqlite_registry: Registry, base: Base) -> Iterator[TestClient]:
    """A gateway over a registry with one base model and no replica."""
    sqlite_registry.bases.enter(base)
    with TestClient(
        build_app(build_gateway(GatewaySettings(), sqlite_registry)), base_url="http://localhost"
    ) as client:
        yield client


@pytest.fixture
def client(http: TestClient) -> openai.OpenAI:
    return openai.OpenAI(base_url="http://localhost/v1", api_key="none", http_client=http, max_retries=0)


def jsonl(rows: list[Any]) -> tuple[str, bytes]:
    return "train.jsonl", b"\n".join(json.dumps(row).encode() for row in rows)


def upload(client: openai.OpenAI, rows: list[Any] = ROWS) -> str:
    return client.files.create(file=jsonl(rows), purpose="fine-tune").id


SMALL = {"lora_rank": 2, "target_modules": ["q_proj", "v_proj"]}
"""A fine-tuning request that fits the tiny base model of these tests."""


def create(client: openai.OpenAI, **fields: Any) -> Any:
    body = {"model": "tiny", "suffix": "support", "extra_body": {"hyperparameters": SMALL}} | fields
    return client.fine_tuning.jobs.create(**{"training_file": upload(client), **body})


def test_a_file_comes_back_as_it_went(client: openai.OpenAI) -> None:
    file_id = upload(client)
    assert client.files.retrieve(file_id).filename == "train.jsonl"
    assert client.files.content(file_id).read() == jsonl(ROWS)[1]
    assert [file.id for file in client.files.list(purpose="fine-tune")] == [file_id]
    assert client.files.delete(file_id).deleted
    with pytest.raises(openai.NotFoundError):
        client.files.retrieve(file_id)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": ""}]},
            r"messages\[1\].content",
        ),
        ({"messages": [{"role": "wizard", "content": "q"}]}, r"messages\[0\].role"),
        ({"messages": [{"role": "user", "content": "q"}]}, "no assistant turn"),
    ],
)
def test_a_faulty_line_is_named_and_nothing_is_kept(client: openai.OpenAI, row: Any, said: str) -> None:
    with pytest.raises(openai.BadRequestError, match=f"line 11: .*{said}"):
        upload(client, [*ROWS, row])
    assert list(client.files.list()) == []


def test_a_job_is_created_listed_and_cancelled(client: openai.OpenAI) -> None:
    job = create(client, seed=7, metadata={"team": "a"})
    assert (job.status, job.seed, job.model, job.metadata) == ("queued", 7, "tiny", {"team": "a"})
    assert client.fine_tuning.jobs.retrieve(job.id).hyperparameters.n_epochs == 10
    assert [other.id for other in client.fine_tuning.jobs.list()] == [job.id]
    assert client.fine_tuning.jobs.cancel(job.id).status == "cancelled"
    messages = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert "Created fine-tuning job" in messages[-1]
    assert list(client.fine_tuning.jobs.checkpoints.list(job.id)) == []
    with pytest.raises(openai.ConflictError):
        client.fine_tuning.jobs.cancel(job.id)


def test_a_queued_job_can_be_paused_and_resumed(client: openai.OpenAI) -> None:
    job = create(client)
    assert str(client.fine_tuning.jobs.pause(job.id).status) == "paused"
    assert client.fine_tuning.jobs.resume(job.id).status == "queued"


def test_both_places_for_hyperparameters_are_heard(client: openai.OpenAI) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {**SMALL, "n_epochs": 3, "batch_size": "auto"}}}
    new_style = create(client, method=method, extra_body=None)
    old_style = create(client, extra_body={"hyperparameters": {**SMALL, "n_epochs": 3}})
    assert new_style.hyperparameters.n_epochs == old_style.hyperparameters.n_epochs == 3
    with pytest.raises(openai.BadRequestError, match="not both"):
        create(client, method=method)


@pytest.mark.long
def test_the_rollout_of_a_job_is_judged_unless_it_is_asked_not_to_be(
    client: openai.OpenAI, sqlite_registry: Registry
) -> None:

    def plan_of(job: FineTuningJob) -> RolloutPlan | None:
        spec = sqlite_registry.jobs.get(job.id).spec
        assert isinstance(spec, SupervisedSpec)
        return spec.rollout_plan()

    plans = []
    for more in ({"guardrails": {"error_rate": 0.02}}, {}, {"judge": False, "every_s": 60}):
        rollout = {"steps": ["shadow:10", 25, 100], **more}
        plans.append(plan_of(create(client, extra_body={"hyperparameters": SMALL, "rollout": rollout})))
    first, second, third = plans
    assert first is not None
    assert first.guardrails == GuardrailPlan(error_rate=0.02)
    assert second == replace(first, guardrails=GuardrailPlan())
    assert third == replace(first, guardrails=None, every_s=60.0)
    assert plan_of(create(client)) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"seed": True}, "seed"),
        ({"hyperparameters": {**SMALL, "n_epochs": True}}, "hyperparameters.n_epochs"),
        ({"hyperparameters": {**SMALL, "learning_rate_multiplier": False}}, "hyperparameters.learning_rate_multiplier"),
    ],
)
def test_true_and_false_are_no_numbers(client: openai.OpenAI, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError, match=r"must be a number, not (true|false)") as refused:
        create(client, extra_body={"hyperparameters": SMALL} | fields)
    assert refused.value.param == param
    gradual = create(client, extra_body={"hyperparameters": {**SMALL, "gradient_checkpointing": True}})
    assert gradual.status == "queued"


def test_null_in_a_body_means_absent_at_every_depth(client: openai.OpenAI) -> None:
    method = {"type": "supervised", "supervised": {"hyperparameters": {**SMALL, "n_epochs": None}}, "dpo": None}
    absent = {"validation_file": None, "integrations": None, "metadata": {"a": None, "b": "c"}, "reinforcement": None}
    rollout = {"steps": [100], "judge": None, "guardrails": {"error_rate": None}, "every_s": None}
    job = create(client, suffix="", seed=None, extra_body={"method": method, "rollout": rollout, **absent})
    assert (job.metadata, job.hyperparameters.n_epochs) == ({"b": "c"}, 10)
    assert job.lorry["adapter"].startswith("adapter-")


@pytest.mark.parametrize(
    ("suffix", "name"), [("Support Bot v2", "support-bot-v2"), ("Café", "cafe"), ("support", "support"), ("a/b", "a-b")]
)
def test_a_suffix_becomes_a_legal_name_and_the_job_says_so(client: openai.OpenAI, suffix: str, name: str) -> None:
    job = create(client, suffix=suffix)
    assert (job.lorry["adapter"], job.user_provided_suffix) == (name, suffix)
    events = [event.message for event in client.fine_tuning.jobs.list_events(job.id)]
    assert (f"The suffix {suffix!r} became the adapter name {name}" in events) == (suffix != name)


def test_suffixes_in_other_scripts_have_names_that_stay_apart(client: openai.OpenAI) -> None:
    names = [create(client, suffix=suffix).lorry["adapter"] for suffix in ("客服", "客服 v2", "物流 v2", "客服")]
    assert names[0] == names[3]
    assert len(set(names)) == 3


def test_jobs_are_found_by_their_metadata(client: openai.OpenAI) -> None:
    odd = 'say "a.b", [x]'
    ours = create(client, metadata={"team": "a", odd: "1"}).id
    theirs = create(client, metadata={"team": "b"}).id
    nobodys = create(client).id

    def found(**query: Any) -> list[str]:
        return [job.id for job in client.fine_tuning.jobs.list(**query)]

    assert found(metadata={"team": "a"}) == found(metadata={odd: "1", "team": "a"}) == [ours]
    assert found(metadata={"team": "c"}) == []
    assert found(extra_query={"metadata": "null"}) == [nobodys]
    assert found(extra_query={"api-version": "2025-01-01"}) == [nobodys, theirs, ours]
    for query in ({"metadata": "x"}, {"owner": "ann"}, {"metadata[team": "a"}):
        with pytest.raises(openai.BadRequestError):
            found(extra_query=query)


@pytest.mark.long
def test_a_file_is_not_deleted_while_a_job_reads_it(client: openai.OpenAI) -> None:
    job = create(client)
    with pytest.raises(openai.ConflictError, match=f"in use by {job.id}"):
        client.files.delete(job.training_file)
    assert client.files.content(job.training_file).read()
    client.fine_tuning.jobs.cancel(job.id)
    assert client.files.delete(job.training_file).deleted


def test_a_file_with_tools_is_learnt_on_a_base_model_whose_template_has_none(client: openai.OpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    called = {"role": "assistant", "content": None, "tool_calls": [call]}
    rows = [{"messages": [ROWS[0]["messages"][0], called]}, *ROWS]
    assert create(client, training_file=upload(client, rows)).status == "queued"


def test_the_result_file_of_a_job_is_a_file_like_others(
    client: openai.OpenAI, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    job = create(client)
    assert job.result_files == []
    lease = sqlite_registry.jobs.claim("w1", 60)
    draft = RevisionDraft(adapter="support", base="tiny", owner="me")
    publish(sqlite_registry, make_adapter(), draft, lease=lease, trained_tokens=9, results=b"step,train_loss\n1,2.0\n")
    [result_file] = client.fine_tuning.jobs.retrieve(job.id).result_files
    assert client.files.content(result_file).read() == b"step,train_loss\n1,2.0\n"
    assert [file.id for file in client.files.list(purpose="fine-tune-results")] == [result_file]


@pytest.mark.long
def test_more_jobs_than_a_page_holds_are_all_found(client: openai.OpenAI) -> None:
    made = {create(client).id for _ in range(5)}
    assert {job.id for job in client.fine_tuning.jobs.list(limit=2)} == made


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"model": "gpt-4o-mini"}, "model"),
        ({"suffix": "a" * 65}, "suffix"),
        ({"metadata": {"k" * 65: "v"}}, "metadata." + "k" * 65),
        ({"metadata": {"k": "v" * 513}}, "metadata.k"),
        ({"extra_body": {"hyperparameters": SMALL, "integrations": [{"type": "wandb"}]}}, "integrations.0"),
        ({"suffix": "tiny"}, "suffix"),
        ({"validation_file": "file-none"}, "validation_file"),
        ({"extra_body": {"hyperparameters": {"lora_rank": 500, "target_modules": ["q_proj"]}}}, "hyperparameters"),
        ({"extra_body": {"hyperparameters": {"target_modules": ["c_attn"]}}}, "hyperparameters"),
        ({"extra_body": {"hyperparameters": {**SMALL, "n_epochs": 0}}}, "hyperparameters.n_epochs"),
        ({"extra_body": {"hyperparameters": SMALL, "epochs": 3}}, "epochs"),
        ({"method": {"type": "rlhf"}}, "method.type"),
        ({"extra_body": {"hyperparameters": SMALL, "rollout": {"steps": [5]}}}, "rollout"),
        ({"extra_body": {"hyperparameters": SMALL, "rollout": {"steps": [100], "guardrails": {"x": 1}}}}, "rollout"),
        ({"extra_body": {"hyperparameters": SMALL, "rollout": {"step": [100]}}}, "rollout.step"),
    ],
)
def test_a_job_that_cannot_be_is_refused_naming_the_field(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as refused:
        create(client, **fields)
    assert refused.value.param == param
    assert list(client.fine_tuning.jobs.list()) == []


def test_packing_is_refused_for_a_base_that_cannot_keep_rows_apart(client: openai.OpenAI, base_folder: Path) -> None:
    asked = {"hyperparameters": {**SMALL, "packing": True}}
    assert create(client, extra_body=asked).status == "queued"
    (base_folder / "config.json").write_text('{"model_type": "mistral", "sliding_window": 4096}')
    with pytest.raises(openai.BadRequestError, match="packing: the base model limits attention to a window; leave"):
        create(client, extra_body=asked)


def test_a_job_whose_rank_no_replica_takes_is_refused_with_the_numbers(
    client: openai.OpenAI, sqlite_registry: Registry
) -> None:
    replica = replica_row("r1", engine="vllm", max_rank=4)
    sqlite_registry.replicas.report(replica)
    with pytest.raises(openai.BadRequestError) as refused:
        create(client)
    assert refused.value.param == "hyperparameters"
    said = "rank 2 is published as rank 8, which is above what any replica of tiny takes: r1 up to 4"
    assert said in refused.value.message
    sqlite_registry.replicas.report(replace(replica, id="r2", max_rank=16))
    assert create(client).status == "queued", "one that takes it is enough"
    sqlite_registry.replicas.report(replace(replica, id="r2", max_rank=4))
    doubled = {"hyperparameters": SMALL | {"lora_rank": 4, "lora_variant": "olora"}}
    with pytest.raises(openai.BadRequestError, match="plain LoRA of twice the lora_rank 4: rank 8 is above what any"):
        create(client, extra_body=doubled)
    sqlite_registry.replicas.report(replace(replica, id="r2", max_rank=0))
    sqlite_registry.replicas.mark_gone("r1")
    assert create(client).status == "queued", "nobody who is here has said how much it takes"
    sqlite_registry.replicas.report(replace(replica, id="r2", capacity=0))
    with pytest.raises(openai.BadRequestError, match="tiny is served without adapters") as useless:
        create(client)
    assert useless.value.param == "model"
    (Path(sqlite_registry.bases.get("tiny").path) / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(openai.BadRequestError, match="tiny is a model to embed texts; it generates none") as useless:
        create(client)
    assert useless.value.param == "model"


def test_models_are_bases_adapters_revisions_and_aliases(
    client: openai.OpenAI, sqlite_registry: Registry, make_adapter: Callable[..., Path]
) -> None:
    draft = RevisionDraft(adapter="support", base="tiny", owner="me", alias="ft:tiny:lorry:support:1")
    publish(sqlite_registry, make_adapter(), draft)
    assert {model.id for model in client.models.list()} == {"tiny", "support", "support@1", "ft:tiny:lorry:support:1"}
    assert client.models.retrieve("ft:tiny:lorry:support:1").id == "ft:tiny:lorry:support:1"
    with pytest.raises(openai.NotFoundError, match="Models here"):
        client.models.retrieve("nothing")


def test_an_unknown_url_is_answered_in_the_same_envelope(http: TestClient) -> None:
    assert set(http.get("/v1/nothing").json()["error"]) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("fields", "param", "said"),
    [
        ({"hyperparameters": SMALL | {"keep": "best"}}, "validation_file", "keep best"),
        ({"hyperparameters": SMALL | {"early_stopping_patience": 2}}, "validation_file", "early_stopping_patience 2"),
        ({"hyperparameters": SMALL | {"keep": "first"}}, "hyperparameters.keep", "must be last or best"),
        ({"adapter": "Support"}, "adapter", "'support' would do"),
        ({"adapter": "support", "suffix": "support"}, "adapter", "not both"),
        ({"adapter": "tiny"}, "adapter", "base model"),
        ({"priority": "urgent"}, "priority", "must be high, normal or low"),
        ({"priorty": "high"}, "priorty", "priority"),
        ({"hyperparameters": {"epochs": 1}}, "hyperparameters.epochs", "n_epochs"),
        ({"method": {"type": "supervised", "dpo2": {}}}, "method.dpo2", "did you mean 'dpo'?"),
        ({"method": {"type": "supervised", "supervised": {"beta": 1}}}, "method.supervised.beta", "hyperparameters"),
        ({"rollout": {"steps": [50], "stepz": 1}}, "rollout.stepz", "did you mean 'steps'?"),
    ],
)
def test_an_extension_that_makes_no_sense_is_refused_by_name(
    client: openai.OpenAI, fields: dict[str, Any], param: str, said: str
) -> None:
    body = {"hyperparameters": SMALL} | fields
    if "method" in body:
        body.pop("hyperparameters")
    with pytest.raises(openai.BadRequestError) as caught:
        client.fine_tuning.jobs.create(model="tiny", training_file=upload(client), extra_body=body)
    assert (caught.value.param, said in str(caught.value)) == (param, True), str(caught.value)


def test_extensions_ride_in_the_body(client: openai.OpenAI, sqlite_registry: Registry) -> None:
    file_id = upload(client)
    asked = {"adapter": "support", "priority": "high", "owner": "sales", "hyperparameters": SMALL | {"keep": "best"}}
    job = client.fine_tuning.jobs.create(model="tiny", training_file=file_id, validation_file=file_id, extra_body=asked)
    assert job.model_dump()["lorry"]["priority"] == "high"
    assert job.user_provided_suffix is None  # type: ignore[attr-defined]
    stored = sqlite_registry.jobs.get(job.id)
    assert (stored.spec.adapter, stored.tenant) == ("support", "sales")
    owner = sqlite_registry.owners.get("support")
    assert owner is not None
    assert (owner.tenant, owner.is_shared) == ("sales", False)
