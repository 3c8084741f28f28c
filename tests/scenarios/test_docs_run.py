"""The commands and programs in the pages run as they stand, against a Lorry on a tiny base with the bundled name.

README comes first, and the programs of all pages share one interpreter's names, as a person's would. Only
the address of the gateway and the folder of backups are other ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import openai
import pytest
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from gateway.engines_settings import BUNDLED_BASE
from tests.pages import PAGES, ROOT, RUNNABLE, Block, blocks
from tests.trainer.tiny_base import save_base, write_chats
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

CONFIG: Final = """
[gateway]
replicas = 1

[[engines.pools]]
name = "small"
base = "{base}"
engine = {{ max_context = 512 }}

[[engines.pools]]
name = "embed"
base = "all-minilm-l6-v2"
"""
JOB_S: Final = 240.0
TO_RUN: Final = [
    block
    for page in sorted(PAGES, key=lambda page: page.name != "README.md")
    for block in blocks(page)
    if block.language in RUNNABLE and block.reason is None and block.environment is None
]


@pytest.fixture(scope="module")
def base_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny base under the name of the bundled one, which the pages name."""
    folder: Path = tmp_path_factory.mktemp("base") / BUNDLED_BASE
    save_base(folder)
    return folder


@pytest.fixture(scope="module")
def settings(base_path: Path) -> str:
    return CONFIG.format(base=base_path)


@pytest.fixture(scope="module")
def place(base_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages take for granted."""
    folder: Path = tmp_path_factory.mktemp("place")
    for path in (
        "examples",
        "deploy",
        "docs",
        "tests",
        "pyproject.toml",
        *("gateway", "registry", "engines", "trainer"),
    ):
        (folder / path).symlink_to(ROOT / path)
    write_chats(folder / "chats.jsonl")
    asked = [{"messages": [{"role": "user", "content": f"{n} times 12?"}], "answer": str(12 * n)} for n in range(12)]
    (folder / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    model = AutoModelForCausalLM.from_pretrained(base_path)
    shape = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    get_peft_model(model, shape).save_pretrained(folder / "my-adapter")
    return folder


@pytest.fixture(scope="module")
def names(up: Up, place: Path) -> Iterator[dict[str, Any]]:
    """The names that programs of the pages share; a stable `support` is there before the first."""
    before = Path.cwd()
    os.chdir(place)
    client = up.client()
    names: dict[str, Any] = {"client": client, "__name__": "pages"}
    with Path("chats.jsonl").open("rb") as chats:
        file = client.files.create(file=chats, purpose="fine-tune")
    quick = {"hyperparameters": {"n_epochs": 1}}
    job = client.fine_tuning.jobs.create(model=BUNDLED_BASE, training_file=file.id, suffix="support", extra_body=quick)
    wait_for(lambda: client.fine_tuning.jobs.retrieve(job.id).status in ("succeeded", "failed"), JOB_S)
    assert client.fine_tuning.jobs.retrieve(job.id).status == "succeeded"
    wait_for(lambda: httpx2.get(f"{up.url}/admin/adapters/support", trust_env=False).json()["stable"], JOB_S)
    yield names
    os.chdir(before)
    for each in (client, *names.values()):  # a program may have put one of its own in its place
        if isinstance(each, openai.OpenAI):
            each.close()


def run_shell(block: Block, up: Up, place: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    # With a key in the registry of this Lorry the other blocks would need one.
    home = place / "other-home" if "--home" in block.text else up.home
    own = {"LORRY_URL": up.url, "LORRY_API_KEY": "none", "LORRY_HOME": str(home), "PATH": path, "HOME": str(place)}
    own |= {"LORRY_CONFIG": str(up.home / "lorry.toml"), "PYTHONPATH": str(ROOT)}
    text = up.addressed(block.text).replace("/tmp/lorry-", f"{place}/lorry-")
    told = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", text],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT if block.page.name == "CONTRIBUTING.md" else place,
        env=os.environ | own,
        timeout=600,
    )
    assert told.returncode == 0, f"{block.place}\n{told.stdout}{told.stderr}"


@pytest.mark.parametrize("block", TO_RUN, ids=lambda block: block.place)
def test_a_block_of_the_pages_runs(block: Block, up: Up, place: Path, names: dict[str, Any]) -> None:
    if block.language == "bash":
        run_shell(block, up, place)
    else:
        if ".list(job.id)" in block.text:
            wait_for(lambda: names["client"].fine_tuning.jobs.retrieve(names["job"].id).status == "succeeded", JOB_S)
        exec(compile(up.addressed(block.text), block.place, "exec"), names)


def test_the_restored_backup_answers_elsewhere(up: Up, place: Path, settings: str) -> None:
    known = {job.id for job in up.client().fine_tuning.jobs.list() if job.status == "succeeded"}
    assert up.stop(signal.SIGTERM) == 0
    restored = Up(place / "lorry-restored", up.port, settings)
    assert "Lorry is ready" in restored.ready_line
    try:
        client = restored.client()
        answer = client.chat.completions.create(
            model="support@1", messages=[{"role": "user", "content": "Where is my teapot?"}], max_tokens=4
        )
        assert answer.model == "support@1"
        jobs = [job for job in client.fine_tuning.jobs.list() if job.id in known]
        assert "support@1" in {model.id for model in client.models.list()}
        assert jobs
        assert "succeeded" in {job.status for job in jobs}
        assert list(client.fine_tuning.jobs.list_events(jobs[-1].id))
    finally:
        assert restored.stop(signal.SIGTERM) == 0
