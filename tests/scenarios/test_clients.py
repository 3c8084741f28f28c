"""Clients of many makers, unmodified, against one Lorry: the protocol holds, whatever is said.

The base is the bundled model with two of its thirty layers, so that answers come soon: nobody minds what they say.
Each program in `clients/` reports its steps, so that one which ends early is seen. Calls of tools are forced, and forms
enforced: a small model would do neither by itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from gateway.engines_settings import BUNDLED_BASE
from tests.pages import ROOT, Block, blocks
from tests.scenarios.shallow_model import save_shallow
from tests.scenarios.test_sdk_walks import place_of, run_program
from tests.up_process import Up

pytestmark = pytest.mark.scenario

PAGE: Final = ROOT / "docs" / "clients.md"
SNIPPETS: Final = [block for block in blocks(PAGE) if block.environment is not None]
MODELS_OF_LLM: Final = next(block.text for block in blocks(PAGE) if block.language == "yaml")
RUN_BY: Final = {"python": (".py", "python"), "js": (".mjs", "node"), "bash": (".sh", "bash", "-eu")}
"""Language of a snippet -> the ending of its file, and what runs it."""
ENCODER: Final = "all-minilm-l6-v2"
CONFIG: Final = """
[[engines.pools]]
name = "chat"
base = "{chat}"

[[engines.pools]]
name = "embed"
base = "{encoder}"
"""
PROGRAMS: Final = Path(__file__).parent / "clients"
BOTH_OF_PYDANTIC_AI: Final = ("text", "stream", "NativeOutput", "ToolOutput", "tools")
BOTH_OF_VERCEL: Final = ("generateText", "streamText", "generateObject", "streamObject", "tools", "streamed tools")
OPENAI_PYTHON: Final = (
    *("chat", "stream", "stream helper", "structured", "completions", "models and errors", "tools", "streamed tools"),
    *("responses", "streamed responses", "structured responses", "responses with tools", "embeddings"),
)


def each_of(*apis: str, steps: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{api}: {step}" for api in apis for step in steps)


STEPS: Final = {
    "langchain_walk.py": (
        *("chat", "stream", "structured by json_schema", "structured by json_mode", "structured by function_calling"),
        *("context overflow", "agent", "responses", "embeddings"),
    ),
    "pydantic_ai_walk.py": each_of("chat", "responses", steps=BOTH_OF_PYDANTIC_AI),
    "anthropic_walk.py": (
        "messages",
        "stream",
        "count_tokens",
        "tools",
        "structured",
        "tool runner",
        "errors",
        "models",
    ),
    "litellm_walk.py": (
        *(
            "completion",
            "stream",
            "structured",
            "context window exceeded",
            "tools",
            "responses",
            "anthropic_messages",
            "embeddings",
        ),
    ),
}
"""Program in the environment of `clients` -> what it reports, in this order."""


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory, model_folder: Path, encoder_folder: Path) -> str:
    folder = tmp_path_factory.mktemp("models")
    save_shallow(model_folder, folder / BUNDLED_BASE)
    return config_of(folder, folder / BUNDLED_BASE, encoder_folder)


def config_of(folder: Path, chat: Path, encoder_folder: Path) -> str:
    """Return the settings of a Lorry that serves the chat model and the encoder, linked by its name in *folder*."""
    (folder / ENCODER).symlink_to(encoder_folder)
    return CONFIG.format(chat=chat, encoder=folder / ENCODER)


def walk(up: Up, *command: str, **environment: str) -> tuple[str, ...]:
    """Run a program; return the steps that it reports behind its version."""
    known = {"LORRY_URL": up.url, "LORRY_MODEL": BUNDLED_BASE, "LORRY_ENCODER": ENCODER, "OPENAI_API_KEY": "none"}
    told = run_program(*command, **known, **environment)
    reported = [json.loads(line) for line in told.splitlines() if line.startswith('{"step"')]
    assert reported[0]["step"] == "client"
    assert reported[0]["version"]
    return tuple(each["step"] for each in reported[1:])


def python_of(sdk: str) -> str:
    return str(place_of(sdk) / "bin" / "python")


@pytest.mark.parametrize("program", STEPS)
def test_a_client_walks_through_what_it_has(up: Up, program: str) -> None:
    assert walk(up, python_of("clients"), str(PROGRAMS / program)) == STEPS[program]


def test_openai_python_3(up: Up) -> None:
    assert walk(up, sys.executable, str(PROGRAMS / "openai_python.py")) == OPENAI_PYTHON


def test_openai_python_2(up: Up) -> None:
    program = (sys.executable, str(PROGRAMS / "openai_python.py"))
    assert walk(up, *program, PYTHONPATH=str(place_of("openai-2"))) == OPENAI_PYTHON


def test_instructor(up: Up) -> None:
    told = walk(up, python_of("instructor"), str(PROGRAMS / "instructor_walk.py"))
    assert told == ("JSON_SCHEMA", "JSON", "TOOLS")


def test_openai_node(up: Up) -> None:
    told = walk(up, "node", str(PROGRAMS / "openai_node.mjs"), str(place_of("node")))
    assert told == ("chat", "stream", "structured", "tools", "streamed tools", "responses", "models and errors")


def test_vercel_ai(up: Up) -> None:
    told = walk(up, "node", str(PROGRAMS / "vercel_ai.mjs"), str(place_of("node")))
    assert told == (*each_of("chat", "responses", steps=BOTH_OF_VERCEL), "embeddings")


def test_llm(up: Up, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(up.addressed(MODELS_OF_LLM))
    command, user = (python_of("clients"), "-m", "llm"), str(tmp_path)
    known = {"LLM_USER_PATH": user, "OPENAI_API_KEY": "none"}
    limited = ("-m", "lorry", "-o", "max_tokens", "24", "-o", "temperature", "0")
    assert run_program(*command, *limited, "Say hello.", **known).strip()
    assert run_program(*command, *limited, "--no-stream", "Say hello.", **known).strip()
    assert run_program(*command, *limited, "-c", "Once more.", **known).strip()
    schema = json.loads(run_program(*command, "-m", "lorry", "--schema", "is_big bool", "Is Paris big?", **known))
    assert schema.keys() == {"is_big"}


@pytest.mark.parametrize("block", SNIPPETS, ids=lambda block: block.place)
def test_a_snippet_of_the_page_runs_in_the_environment_of_its_client(up: Up, tmp_path: Path, block: Block) -> None:
    place = place_of(str(block.environment))
    suffix, *command = RUN_BY[block.language]
    snippet = tmp_path / f"snippet{suffix}"
    snippet.write_text(up.addressed(block.text))
    (tmp_path / "node_modules").symlink_to(place / "node_modules")
    (tmp_path / "extra-openai-models.yaml").write_text(up.addressed(MODELS_OF_LLM))
    known = {"PYTHONPATH": str(place)} if block.environment == "openai-2" else {}
    known |= {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "none", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    path = f"{place / 'bin'}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    assert run_program(*command, str(snippet), PATH=path, **known).strip()
