"""A model with sight learns from chats with pictures; its result is an adapter of its language model."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from registry.contracts.fingerprint import check_fingerprint
from registry.contracts.hyperparameters import Hyperparameters
from registry.contracts.methods.supervised_spec import SupervisedSpec
from registry.contracts.pictures.picture_sources import PictureSources
from registry.publishing.checkpoint_forms.whole_models import check_checkpoint
from registry.publishing.checks import check_adapter
from registry.types import Base
from tests.trainer.tiny_vision import save_idefics, save_llava, write_picture_chats
from trainer.data.encoded_row import IGNORED
from trainer.data.pictures import PictureEncoder, chat_encoder
from trainer.order import ChildOrder
from trainer.progress import Progress, RecipeFinished, Stepped
from trainer.recipes import load_recipe
from trainer.recipes.supervised import SupervisedObjective
from trainer.training.base_model import load_base
from trainer.training.weights import attach_lora

SAVERS = {"idefics": save_idefics, "llava": save_llava}


@pytest.fixture(scope="module", params=SAVERS)
def sighted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp(request.param) / "base"
    SAVERS[request.param](folder)
    return folder


def no_file(file_id: str) -> Path:
    raise AssertionError(file_id)


SOURCES = PictureSources(find_file=no_file, folder=None)


def spec_of(**fields: object) -> SupervisedSpec:
    common = {"base": "seer", "base_digest": "0" * 64, "adapter": "colours", "training_file": "file-1", "seed": 7}
    return SupervisedSpec.model_validate(
        common | {"n_epochs": 2, "batch_size": 4, "learning_rate": 0.01, "checkpoint_steps": 3} | fields
    )


def train(base: Path, folder: Path, **fields: object) -> tuple[Path, list[Progress]]:
    folder.mkdir()
    order = ChildOrder[SupervisedSpec](
        spec=spec_of(**fields),
        base_path=base,
        inputs={name: write_picture_chats(folder / "chats.jsonl") for name in ("training_file", "validation_file")},
        job_folder=folder,
        attempt_folder=folder / "attempt-1",
        threads=1,
        nice=0,
        keep_checkpoints=1,
        worker_pid=os.getpid(),
    )
    order.attempt_folder.mkdir()
    reported: list[Progress] = []
    outcome = load_recipe(order.spec)(order, reported.append, lambda: False)
    assert isinstance(outcome, RecipeFinished)
    return order.final_folder, reported


@pytest.mark.trains
def test_the_language_model_learns_and_is_published(sighted: Path, tmp_path: Path) -> None:
    final, reported = train(sighted, tmp_path / "job")
    losses = [step.train_loss for step in reported if isinstance(step, Stepped)]
    assert losses[-1] < losses[0]
    check_adapter(final, sighted)
    stored = {name.removeprefix("base_model.model.") for name in load_file(final / "adapter_model.safetensors")}
    base = {name.removesuffix(".weight") for name in load_file(sighted / "model.safetensors")}
    assert {name.partition(".lora_")[0] for name in stored} <= base
    assert not [name for name in stored if "vision" in name]
    fingerprint = check_fingerprint(
        final, Base(name="seer", path=str(sighted), digest="0" * 64, licence="", created_at=1.0)
    )
    assert fingerprint.shows_effect()
    pictured = [probe for probe in fingerprint.probes if isinstance(probe.messages[-1]["content"], list)]
    assert len(pictured) == 1
    assert all(token.base_logprob != token.logprob for token in pictured[0].tokens)
    again, _ = train(sighted, tmp_path / "again")
    digests = {sha256((folder / "adapter_model.safetensors").read_bytes()).hexdigest() for folder in (final, again)}
    assert len(digests) == 1


@pytest.mark.trains
@pytest.mark.parametrize("asked", [{"weights": "full"}, {"merge": True, "lora_rank": 4}], ids=["full", "merged"])
def test_a_whole_model_with_sight_is_published(sighted: Path, tmp_path: Path, asked: dict[str, object]) -> None:
    given = Hyperparameters.model_validate(asked)
    rate = 1e-3 if given.weights == "full" else 1e-2
    fields = {"lora": given.lora(), "weights": given.trained_weights(), "learning_rate": rate}
    final, reported = train(sighted, tmp_path / "job", **fields)
    losses = [step.train_loss for step in reported if isinstance(step, Stepped)]
    assert losses[-1] < losses[0]
    (early,) = final.parent.glob("served-*")
    for folder in (final, early):
        check_checkpoint(folder, sighted)
        assert {path.name for path in folder.iterdir()} == {path.name for path in sighted.iterdir()}
    made, base = (load_file(folder / "model.safetensors") for folder in (final, sighted))
    seen = {name for name in made if "vision" in name and not torch.equal(made[name], base[name])}
    assert bool(seen) is (given.weights == "full")  # full training changes the part that sees, LoRA leaves it
    pictures = load_base(final)
    assert type(pictures) is type(load_base(sighted))


@pytest.mark.trains
def test_the_loss_is_the_models_own_and_depends_on_the_pictures(sighted: Path, tmp_path: Path) -> None:
    encoder = chat_encoder(sighted, SOURCES)
    objective = SupervisedObjective(encoder, spec_of())
    rows = objective.read_rows(write_picture_chats(tmp_path / "chats.jsonl"), "training_file")
    base = load_base(sighted)

    def loss(chosen: list[int]) -> float:
        batch = objective.collate([rows[at] for at in chosen])
        return float(objective.loss(base, batch, objective.count_items([batch])).detach())

    # One row at a time by the processor's own call, and the model's own loss over the learnt tokens.
    assert isinstance(encoder, PictureEncoder)
    own = []
    for row in rows[:3]:
        pixels = encoder.picture_inputs(row.pictures)
        labels = torch.tensor([row.labels])
        out = base(input_ids=torch.tensor([row.input_ids]), labels=labels, **pixels)
        own.append((float(out.loss.detach()), int((labels != IGNORED).sum())))
    together = sum(value * count for value, count in own) / sum(count for _, count in own)
    assert loss([0, 1, 2]) == pytest.approx(together, rel=1e-5)
    other = objective.collate([replace(rows[0], pictures=rows[1].pictures)])
    assert float(objective.loss(base, other, objective.count_items([other])).detach()) != pytest.approx(
        loss([0]), rel=1e-7
    )


def test_only_the_answers_are_learnt(sighted: Path, tmp_path: Path) -> None:
    encoder = chat_encoder(sighted, SOURCES)
    rows = SupervisedObjective(encoder, spec_of()).read_rows(write_picture_chats(tmp_path / "c.jsonl"), "training_file")
    assert [len(row.pictures) for row in rows[:3]] == [1, 1, 0]
    for row, colour in zip(rows, ("red", "blue", "green"), strict=False):
        learnt = [label for label in row.labels if label != IGNORED]
        assert "".join(encoder.spell(token)[0] for token in learnt) == f"{colour}<|im_end|>"


def test_the_vision_part_is_left_alone(sighted: Path, tmp_path: Path) -> None:
    model = attach_lora(load_base(sighted), spec_of(), tmp_path)
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert not [name for name in trained if "vision" in name or "connector" in name or "projector" in name]


@pytest.mark.parametrize("fault", ["<image>", "left out"])
def test_what_the_template_cannot_tell_apart_is_refused(
    fault: str, tmp_path: Path, edit: Callable[[Path, str], Path]
) -> None:
    base = tmp_path / "base"
    save_llava(base)
    chats = edit(tmp_path / "chats.jsonl", "an <image> here" if fault == "<image>" else "colour")
    if fault == "left out":
        template = base / "chat_template.jinja"
        template.write_text(template.read_text().replace("'<image>'", "''"))
    objective = SupervisedObjective(chat_encoder(base, SOURCES), spec_of())
    objective.read_rows(chats, "training_file")
    [reason] = objective.unfit_rows("training_file").reasons
    assert (reason.reason, reason.example[:8]) == ("template_refused", "line 1: ")


@pytest.fixture
def edit() -> Callable[[Path, str], Path]:
    def write(path: Path, text: str) -> Path:
        write_picture_chats(path)
        path.write_text(path.read_text().replace("colour 0?", text))
        return path

    return write
