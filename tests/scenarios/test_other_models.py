"""Models that do not chat, behind the gateway by the engines that take them: embeddings, ranks, transcriptions."""

from __future__ import annotations

import io
import math
import signal
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
import openai
import pytest

from engines.kinds import DEFAULT_KIND
from gateway.engines_settings import BUNDLED_BASE
from tests.contract.kinds import CASES, link_environments
from tests.scenarios.other_models import save_hearer, save_reranker
from tests.up_process import Up
from tests.waiting import wait_for

pytestmark = pytest.mark.scenario

READY_S: Final = 400.0
CHAT: Final = """
[[engines.pools]]
name = "chat"
engine = { max_context = 256, max_batch = 4 }
"""
POOL: Final = """
[[engines.pools]]
name = "{name}"
kind = "{kind}"
base = "{base}"
engine = {{ max_adapters = 0, max_context = 256, max_batch = 4{more} }}
"""
ENGINES: Final = {
    "transformers": {"vectors": "", "ranks": ""},
    "vllm": {
        "vectors": ', extra_args = ["--runner", "pooling", "--convert", "embed"]',
        "ranks": "",
        "speech": ", max_step_tokens = 2048",  # half a minute of sound is 1,500
    },
    "sglang": {
        "vectors": ', extra_args = ["--is-embedding"]',
        "ranks": ', extra_args = ["--is-embedding", "--disable-radix-cache"]',
    },
}
"""Kind -> name of the model and its pool -> what makes the engine serve it: the models that each takes."""
CAT, KITTEN, RATES = "A cat sat on the mat.", "A kitten lay on the rug.", "Interest rates rose."


@pytest.fixture(scope="module", params=[CASES[kind] for kind in ENGINES])
def kind(request: pytest.FixtureRequest) -> str:
    """The kind of engine that the story is about."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def models(kind: str, model_folder: Path, encoder_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models: the others embed by a model that chats, Lorry's own engine by an encoder."""
    models: Path = tmp_path_factory.mktemp("models")
    (models / "vectors").symlink_to(encoder_folder if kind == DEFAULT_KIND else model_folder)
    save_reranker(models / "ranks")
    save_hearer(models / "speech")
    return models


@pytest.fixture(scope="module")
def up(kind: str, home: Path, port: int, models: Path) -> Iterator[Up]:
    """A Lorry with a pool that chats and one for each of the others."""
    link_environments(home, kind)
    others = ENGINES[kind].items()
    pools = [POOL.format(name=name, kind=kind, base=models / name, more=more) for name, more in others]
    running = Up(home, port, CHAT + "".join(pools))
    yield running
    if running.process.poll() is None:
        running.stop(signal.SIGKILL)


def test_each_model_answers_what_it_is_for_and_nothing_else(up: Up, kind: str) -> None:
    names = {BUNDLED_BASE, *ENGINES[kind]}
    message: Any = {"role": "user", "content": CAT}
    with up.client() as client:
        wait_for(lambda: {model.id for model in client.models.list()} == names, READY_S)
        embeddings(client)
        ranks(client)
        if "speech" in names:
            transcription(client)
        refused(lambda: client.embeddings.create(model=BUNDLED_BASE, input=CAT), "vectors")
        refused(lambda: client.chat.completions.create(model="vectors", messages=[message]), "chat")
        with pytest.raises(openai.BadRequestError, match="context length"):
            client.embeddings.create(model="vectors", input=CAT * 100)


def embeddings(client: openai.OpenAI) -> None:
    """Texts of one meaning are nearer to each other than to another."""
    told = client.embeddings.create(model="vectors", input=[CAT, KITTEN, RATES])
    cat, kitten, rates = (np.array(each.embedding) / np.linalg.norm(each.embedding) for each in told.data)
    assert cat @ kitten > cat @ rates
    assert told.usage.prompt_tokens > 0


def ranks(client: openai.OpenAI) -> None:
    """Every document has its score, the best first."""
    body = {"query": CAT, "documents": [KITTEN, RATES]}
    told: Any = client.post("/rerank", cast_to=object, body={"model": "ranks", **body})
    found = told["results"] if isinstance(told, dict) else told
    scores = [one["relevance_score"] if isinstance(told, dict) else one["score"] for one in found]
    assert sorted(one["index"] for one in found) == [0, 1]
    assert scores == sorted(scores, reverse=True)
    assert all(math.isfinite(score) for score in scores)


def transcription(client: openai.OpenAI) -> None:
    """Send a second of a tone; an untrained model transcribes it to some text."""
    tone = (8000 * np.sin(2 * np.pi * 440 * np.arange(16000) / 16000)).astype("<i2")
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes(tone.tobytes())
    told = client.audio.transcriptions.create(model="speech", file=("tone.wav", sound.getvalue()), language="en")
    assert told.text


def refused(ask: Callable[[], object], pool: str) -> None:
    """Check that the answer is 404 and names the pool that would answer."""
    with pytest.raises(openai.NotFoundError, match=rf"Pools that do: .*{pool}") as caught:
        ask()
    assert caught.value.code == "endpoint_not_offered"
