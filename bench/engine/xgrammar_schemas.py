"""Try with XGrammar what `engines/xgrammar_schemas.py` lets pass of the JSON Schema test suite.

    ENVS/sglang/bin/python bench/engine/xgrammar_schemas.py FOLDER SUITE [--typed] [--unchecked]

Run by the Python of the environment of vLLM, SGLang or LMDeploy, which has XGrammar and transformers. FOLDER has a
base model, SUITE is `tests/draft2020-12` of the JSON Schema test suite. Of each schema that passes the check, each
instance is written as an answer would be: a wrong one must not be accepted. `--typed` adds the type to schemas that
leave it out, as people write them; whether an instance is valid is then asked of the package `jsonschema`, which the
environments of vLLM and SGLang have. `--unchecked` lets every schema pass.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, Final

sys.path.insert(0, str(Path(__file__).parents[2]))

from engines.xgrammar_schemas import TYPE_OF, unenforced

_OF_NAMES: Final = ("properties", "$defs", "definitions", "patternProperties", "dependentSchemas")
"""Keywords whose members are named by the schema's author."""
_OF_VALUES: Final = ("const", "enum")

Takes = Callable[[Any], bool]


def main() -> None:
    """Try every schema, and print what was accepted wrongly and how many there were."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("suite", type=Path)
    parser.add_argument("--typed", action="store_true")
    parser.add_argument("--unchecked", action="store_true")
    args = parser.parse_args()
    compiled = compiler_of(args.folder)
    counts: Counter[str] = Counter()
    for name, schema, instances in cases(args.suite, is_typed=args.typed):
        if not args.unchecked and next(unenforced(schema), None) is not None:
            counts["schemas refused by the check"] += 1
            continue
        try:
            takes = compiled(schema)
        except RuntimeError:
            counts["schemas refused by XGrammar"] += 1
            continue
        counts["schemas enforced"] += 1
        for value, is_valid in instances:
            is_taken = takes(value)
            counts[f"{'valid' if is_valid else 'invalid'} instances {'taken' if is_taken else 'not taken'}"] += 1
            if is_taken and not is_valid:
                sys.stdout.write(f"WRONG {name}: {json.dumps(value)[:80]}\n")
    for kind, count in sorted(counts.items()):
        sys.stdout.write(f"{kind:<32}{count:5}\n")


def compiler_of(folder: Path) -> Callable[[dict[str, Any]], Takes]:
    """Return what makes of a schema the test whether an answer may be a value; that raises `RuntimeError`."""
    xgrammar, transformers = import_module("xgrammar"), import_module("transformers")
    vocabulary = json.loads((folder / "config.json").read_text())["vocab_size"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    known = xgrammar.TokenizerInfo.from_huggingface(tokenizer, vocab_size=vocabulary)
    compiler, end = xgrammar.GrammarCompiler(known), known.stop_token_ids[0]

    def compiled(schema: dict[str, Any]) -> Takes:
        grammar = compiler.compile_json_schema(json.dumps(schema))

        def takes(value: Any) -> bool:
            matcher = xgrammar.GrammarMatcher(grammar)
            return bool(matcher.accept_string(json.dumps(value, ensure_ascii=False)) and matcher.accept_token(end))

        return takes

    return compiled


def cases(suite: Path, *, is_typed: bool) -> Iterator[tuple[str, dict[str, Any], list[tuple[Any, bool]]]]:
    """Yield name, schema and instances, each with whether it is valid."""
    for path in sorted(suite.glob("*.json")):
        for case in json.loads(path.read_text()):
            if not isinstance(case["schema"], dict):
                continue
            schema = {name: value for name, value in case["schema"].items() if name != "$schema"}
            instances = [(test["data"], test["valid"]) for test in case["tests"]]
            if is_typed:
                schema = with_types(schema)
                instances = list(judged(schema, [value for value, _ in instances]))
            yield f"{path.stem}: {case['description']}", schema, instances


def judged(schema: dict[str, Any], values: list[Any]) -> Iterator[tuple[Any, bool]]:
    """Yield each value with whether it is valid, as far as the validator can tell."""
    validator = import_module("jsonschema").Draft202012Validator(schema)
    unresolved = import_module("referencing.exceptions").Unresolvable
    for value in values:
        try:
            yield value, validator.is_valid(value)
        except unresolved:  # a schema somewhere else
            continue


def with_types(schema: Any) -> Any:
    """Return the schema with the type that its keywords are about, where it names none."""
    if isinstance(schema, list):
        return [with_types(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    typed = {name: value if name in _OF_VALUES else _inner(name, value) for name, value in schema.items()}
    about = next((TYPE_OF[name] for name in typed if name in TYPE_OF), None)
    return typed if about is None or "type" in typed or "$ref" in typed else typed | {"type": about}


def _inner(name: str, value: Any) -> Any:
    if name in _OF_NAMES and isinstance(value, dict):
        return {key: with_types(each) for key, each in value.items()}
    return with_types(value)


if __name__ == "__main__":
    main()
