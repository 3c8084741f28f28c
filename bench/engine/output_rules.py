"""Measure what enforced output costs, and count which schemas it enforces.

    python bench/engine/output_rules.py cost FOLDER [--rows 16] [--rounds 5]
    python bench/engine/output_rules.py schemas FOLDER SUITE

FOLDER has a base model, such as the bundled one. `cost` starts our own engine and sends as many chats at a time as
*rows*, in turn free, bound by a schema, and with tools that could be called, while the model writes text. For the last
there is a pair: the same prompt without `tools`, so that the answer is free. `cost` prints the medians of the rounds:
time a token by the clock and by the engine's processors, and their ratios.

`schemas` reads SUITE, a folder of the JSON Schema test suite (`tests/draft2020-12`; the source archive of the package
`jsonschema` has it as `json/tests/draft2020-12`). Each schema is enforced or refused by name. For one that is enforced,
each instance of the suite is written as an answer would be: the grammar should take the valid ones, as some answer must
be able to have this value, and must not take the others.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import psutil
import torch
from tokenizers import Tokenizer

sys.path.insert(0, str(Path(__file__).parents[2]))

from conversations.hermes import as_plain_messages
from conversations.turns import Turn
from engines.settings import EngineSettings
from engines.transformers.constraints.constraint import Constraint
from engines.transformers.constraints.grammars import GrammarCompiler
from engines.transformers.constraints.output_rules import OutputRule
from engines.transformers.errors import BadRequest
from tests.contract.engine_host import EngineHost

TOKENS: Final = 48
LONG: Final = {
    "type": "object",
    "properties": {"text": {"type": "string", "minLength": 400}, "is_so": {"type": "boolean"}},
    "required": ["text", "is_so"],
}
RULE: Final = {"type": "json_schema", "json_schema": {"name": "long", "schema": LONG}}
TOOLS: Final = [{"type": "function", "function": {"name": f"tool_{number}", "parameters": LONG}} for number in range(4)]
NO_END: Final = {"logit_bias": {"2": -100}}
"""The bundled model's end token does not come."""
VARIANTS: Final[dict[str, dict[str, Any]]] = {
    "free": {"ignore_eos": True},
    "bound": {"response_format": RULE},
    "told of tools": {**NO_END, "offers": True},
    "with tools": {**NO_END, "tools": TOOLS},
}
"""Name -> further fields of the chats; `offers` puts the tools into the system's message alone."""
PAIRS: Final = (("free", "bound"), ("told of tools", "with tools"))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    cost = commands.add_parser("cost")
    cost.add_argument("folder", type=Path)
    cost.add_argument("--rows", type=int, default=16)
    cost.add_argument("--rounds", type=int, default=5)
    schemas = commands.add_parser("schemas")
    schemas.add_argument("folder", type=Path)
    schemas.add_argument("suite", type=Path)
    args = parser.parse_args()
    if args.command == "cost":
        measure(args.folder.absolute(), args.rows, args.rounds)
    else:
        conform(args.folder, args.suite)


def measure(folder: Path, rows: int, rounds: int) -> None:
    """Print seconds a token, free and bound."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = EngineSettings(base_path=folder, base_name="base", log_path=Path(scratch) / "log", max_batch=rows)
        host = EngineHost(settings, {})
        try:
            spent: dict[str, list[tuple[float, float]]] = {name: [] for name in VARIANTS}
            for number in range(rounds + 1):
                for name, fields in VARIANTS.items():
                    seconds = _seconds_a_token(host, rows, fields)
                    if number:  # the first round warms up
                        spent[name].append(seconds)
        finally:
            host.close()
    for free, bound in PAIRS:
        for place, clock in enumerate(("clock", "processor")):
            without, under = (statistics.median(each[place] for each in spent[name]) for name in (free, bound))
            figures = f"{1e3 * without:7.1f} ms a token, {bound} {1e3 * under:7.1f} ms, ratio {under / without:.3f}"
            _print(f"{clock:<10} {free} {figures}")


def _seconds_a_token(host: EngineHost, rows: int, fields: dict[str, Any]) -> tuple[float, float]:
    with ThreadPoolExecutor(rows) as clients:
        # The slots hold the prompts from here on: their lengths differ, and only the answers are to be compared.
        list(clients.map(lambda row: _tokens_of(host, f"Story {row}", fields | {"max_tokens": 1}), range(rows)))
        began, worked = time.perf_counter(), _processor_s()
        tokens = list(clients.map(lambda row: _tokens_of(host, f"Story {row}", dict(fields)), range(rows)))
    assert min(tokens) == TOKENS
    return (time.perf_counter() - began) / TOKENS, (_processor_s() - worked) / TOKENS


def _tokens_of(host: EngineHost, question: str, fields: dict[str, Any]) -> int:
    if fields.pop("offers", False):
        turns = [Turn(role="user", content=question)]
        fields["messages"], _ = as_plain_messages(turns, TOOLS, takes_system=True)
    count: int = host.chat(question, **{"max_tokens": TOKENS, **fields})["usage"]["completion_tokens"]
    return count


def _processor_s() -> float:
    """Return the processor time of the engine, the only child of this process."""
    times = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return sum(each.user + each.system for each in times)


def conform(folder: Path, suite: Path) -> None:
    """Print how many schemas are enforced and refused, and which instances are judged wrongly."""
    codec = Tokenizer.from_file(str(folder / "tokenizer.json"))
    config = json.loads((folder / "config.json").read_text())
    end = config["eos_token_id"]
    compiler = GrammarCompiler(codec, config["vocab_size"], [end])
    counts: Counter[str] = Counter()
    for name, schema, instances in _cases(suite):
        rule = OutputRule("json_schema", json.dumps(schema), "schema")
        try:
            compiler.constraints(rule)
        except BadRequest:
            counts["schemas refused by name"] += 1
            continue
        counts["schemas enforced"] += 1
        for instance in instances:
            is_taken = _takes(compiler, codec, end, rule, instance["data"])
            kind = f"{'valid' if instance['valid'] else 'invalid'} instances {'taken' if is_taken else 'not taken'}"
            counts[kind] += 1
            if is_taken and not instance["valid"]:
                _print(f"WRONG {name}: {instance['description']}: {json.dumps(instance['data'])[:80]}")
    for kind, count in sorted(counts.items()):
        _print(f"{kind:<32}{count:5}")


def _cases(suite: Path) -> Iterator[tuple[str, dict[str, Any], list[dict[str, Any]]]]:
    for path in sorted(suite.glob("*.json")):
        for case in json.loads(path.read_text()):
            if isinstance(case["schema"], dict):
                schema = {name: value for name, value in case["schema"].items() if name != "$schema"}
                yield f"{path.stem}: {case['description']}", schema, case["tests"]


def _takes(compiler: GrammarCompiler, codec: Tokenizer, end: int, rule: OutputRule, value: Any) -> bool:
    """Whether an answer may be *value* and end there."""
    constraint = compiler.constraints(rule)()
    for token in codec.encode(json.dumps(value, ensure_ascii=False)).ids:
        if not _allows(constraint, token):
            return False
        constraint.advance(token)
    return constraint.is_complete or _allows(constraint, end)


def _allows(constraint: Constraint, token: int) -> bool:

    logits = torch.zeros(constraint.vocabulary)
    constraint.narrow(logits)
    return bool(logits[token] == 0)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
