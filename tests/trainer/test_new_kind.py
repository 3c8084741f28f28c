"""A new kind of job needs a spec, a recipe and one line of the catalog, and nothing else."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from registry.contracts.job_kinds import FINE_TUNING_KINDS, JOB_KINDS
from registry.types import Base

ROOT = Path(__file__).parents[2]
PACKAGES = ("registry", "engines", "gateway", "trainer")
CATALOG = "registry/contracts/job_kinds.py"

SPEC = """
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import ClassVar, Literal

from registry.contracts.fine_tune_spec import FineTuneSpec
from registry.contracts.hyperparameters import Hyperparameters, MethodOptions


class EchoHyperparameters(Hyperparameters):
    volume: int | None = None


class EchoOptions(MethodOptions):
    hyperparameters: EchoHyperparameters = EchoHyperparameters()


class EchoSpec(FineTuneSpec):
    recipe: ClassVar[str] = "echo"
    id_prefix: ClassVar[str] = "echojob"
    noun: ClassVar[str] = "echo"
    options_as: ClassVar[type[MethodOptions]] = EchoOptions

    method: Literal["echo"] = "echo"
    volume: int

    @classmethod
    def count_rows(cls, lines: Iterable[bytes], base_folder: Path | None) -> int:
        return len(list(lines))

    def hyperparameters(self) -> Mapping[str, int | float | str]:
        return {"volume": self.volume}
"""

RECIPE = """
import json
import shutil

from trainer.progress import Noted, RecipeFinished


def echo(order, report, stop_asked):
    report(Noted(message=f"Echo at volume {order.spec.volume}"))
    shutil.copytree(json.loads(order.inputs["training_file"].read_text())["folder"], order.final_folder)
    return RecipeFinished(metrics={"loud": True}, trained_tokens=5, versions={}, machine={})


RECIPE = echo
"""

STORY = """
import json
import sys
from pathlib import Path
from threading import Event

from gateway.admin.jobs import any_job
from gateway.openai.job_request import build_spec
from gateway.openai.types import CreateJob
from registry.database import open_registry
from registry.disk import Liveness
from registry.settings import RegistrySettings
from registry.types import Base
from trainer.settings import TrainerSettings
from trainer.worker import Worker

home, base, adapter = Path(sys.argv[1]), Base(**json.loads(sys.argv[2])), sys.argv[3]
registry = open_registry(RegistrySettings(url=f"sqlite:///{home / 'registry.db'}", artifacts=home / "artifacts"))
registry.bases.enter(base)
file = registry.files.add([json.dumps({"folder": adapter}).encode()], filename="f", purpose="fine-tune", owner="ann")
body = CreateJob.model_validate({
    "model": base.name,
    "training_file": file.id,
    "suffix": "support",
    "hyperparameters": None,
    "method": {
        "type": "echo",
        "echo": {"hyperparameters": {"volume": 11, "lora_rank": 2, "target_modules": ["q_proj"]}},
    },
})
job = registry.jobs.create(build_spec(body, registry), "ann")
assert Worker(registry, TrainerSettings(work=home / "jobs", poll_s=0.1), "w1", Liveness(home, "w1")).work_once(Event())
events = [event.message for event in registry.jobs.events(job.id)]
revision = registry.adapters.revision("support", 1)
listed = [one.id for one in registry.jobs.list(only_fine_tuning=True)] == [job.id]
answer = any_job(registry.jobs.get(job.id), registry).model_dump(mode="json")
print(json.dumps({
    "answer": answer, "events": events, "listed": listed, "alias": revision.alias, "made_by": revision.provenance
}))
registry.close()
"""


@pytest.fixture
def tree_with_echo(tmp_path: Path) -> Path:
    """Our packages with a kind more: one spec, one recipe, one line of the catalog (and the line of its import)."""
    tree = tmp_path / "tree"
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tree / package, ignore=shutil.ignore_patterns("__pycache__"))
    (tree / "registry" / "contracts" / "methods" / "echo_spec.py").write_text(SPEC)
    (tree / "trainer" / "recipes" / "echo.py").write_text(RECIPE)
    catalog = tree / CATALOG
    name = "from registry.contracts.methods.supervised_spec import"
    imported = f"from registry.contracts.methods.echo_spec import EchoSpec\n{name}"
    text = catalog.read_text().replace(name, imported, 1)
    catalog.write_text(text.replace("    SupervisedSpec,\n", "    SupervisedSpec,\n    EchoSpec,\n"))
    return tree


@pytest.mark.trains
def test_a_new_kind_goes_from_its_request_to_its_revision(
    tree_with_echo: Path, tmp_path: Path, sqlite_template: Path, base: Base, make_adapter: Callable[..., Path]
) -> None:
    shutil.copy(sqlite_template, tmp_path / "registry.db")
    facts = {name: getattr(base, name) for name in ("name", "path", "digest", "licence", "created_at")}
    command = [sys.executable, "-c", STORY, str(tmp_path), json.dumps(facts), str(make_adapter())]
    environment = {"PYTHONPATH": str(tree_with_echo), "PATH": "/usr/bin:/bin"}
    run = subprocess.run(command, cwd=tree_with_echo, env=environment, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    story = json.loads(run.stdout)
    answer = story["answer"]
    assert (answer["status"], answer["object"], answer["lorry"]["revision"]) == (
        "succeeded",
        "fine_tuning.job",
        "support@1",
    )
    assert answer["method"] == {"type": "echo", "echo": {"hyperparameters": {"volume": 11}}}
    assert answer["id"].startswith("echojob-")
    assert story["listed"], "OpenAI's clients see it"
    assert story["alias"] == answer["fine_tuned_model"] == f"ft:{base.name}:lorry:support:{answer['id'][-8:]}"
    for expected in ("Created echo job", "Echo job started", "Echo at volume 11", "New fine-tuned model created"):
        assert any(message.startswith(expected) for message in story["events"])
    made_by = story["made_by"]
    assert made_by["hyperparameters"]["volume"] == 11
    assert (made_by["metrics"], made_by["trained_tokens"]) == ({"loud": True}, 5)
    assert made_by["dataset"]["filename"] == "f"


NAMES_ITS_KIND = {
    CATALOG,
    *(f"{kind.__module__.replace('.', '/')}.py" for kind in JOB_KINDS.values()),
    *(f"trainer/recipes/{kind.recipe}.py" for kind in FINE_TUNING_KINDS),
    "registry/publishing/publications.py",  # creates what an upload asks for
    "gateway/admin/weights/merges.py",  # creates what a request asks for, and shows it
    "gateway/admin/weights/quantizations.py",
    "registry/publishing/reproductions.py",  # creates what a comparison asks for
    "trainer/quantizing/calibration.py",
    "trainer/recipes/merge.py",
    "trainer/recipes/quantize.py",
    "trainer/recipes/prove.py",
    "trainer/reproduction/report.py",
}
"""Files that may name a kind of job: its spec, its recipe, the catalog, and code that creates such a job."""


def names_a_kind(path: Path) -> bool:
    """True if a file mentions the class of a spec, or compares or matches with the name of a kind."""
    classes = {kind.__name__ for kind in JOB_KINDS.values()}
    for node in ast.walk(ast.parse(path.read_text())):
        name = node.id if isinstance(node, ast.Name) else node.name if isinstance(node, ast.ClassDef) else ""
        if name in classes:
            return True
        if isinstance(node, ast.Compare | ast.MatchValue):
            constants = {inner.value for inner in ast.walk(node) if isinstance(inner, ast.Constant)}
            if constants & JOB_KINDS.keys():
                return True
    return False


@pytest.mark.long
def test_no_other_file_names_a_kind() -> None:
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    named = {
        path.relative_to(ROOT).as_posix() for path in paths if "migrations" not in path.parts and names_a_kind(path)
    }
    assert named == NAMES_ITS_KIND
