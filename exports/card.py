"""A model card made of a model's lineage: README.md with YAML front matter, as the hubs read it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_PLAIN_LICENCES: Final = ("see LICENSE", "unknown", "")
"""The licence that Lorry records where a folder names none."""
_KINDS: Final = {"adapter": "LoRA adapter", "checkpoint": "model", "base": "model"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """A step on the way to a model; `made_by` is its provenance."""

    name: str
    kind: str
    digest: str
    licence: str | None
    made_by: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]] = field(default=())
    """Suite, tool, rows, score and interval of each evaluation of exactly these weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """The content of a card."""

    title: str
    kind: str
    """`adapter`, `checkpoint` or `base`."""
    form: str
    """`folder`, or a type of GGUF."""
    base_model: str | None
    """Id of the model that this one was made of, for the hubs; None where it is that model itself."""
    lineage: Sequence[Origin]
    checked: Sequence[str] = field(default=())
    """Sentences on what was compared after writing."""
    version: str
    """The version of Lorry."""


def model_card(facts: CardFacts) -> str:
    """Return the text of README.md. Nothing of it names a person, a path, a file or a key."""
    sections = [_front_matter(facts), f"# {facts.title}", _introduction(facts), _use(facts)]
    sections += [*_training(facts.lineage), *_quantization(facts.lineage), *_measured(facts)]
    sections += [_lineage(facts.lineage), _limits(facts), f"Made by Lorry {facts.version}."]
    return "\n\n".join(section for section in sections if section) + "\n"


def hub_id(lineage: Sequence[Origin]) -> str | None:
    """Return the id under which a hub has the base model at the end of the *lineage*; None if it was no hub's."""
    found = lineage[-1].made_by.get("id") if lineage else None
    return found if isinstance(found, str) else None


def licence_of(lineage: Sequence[Origin]) -> str | None:
    """Return the licence of the nearest whole model in the *lineage*; None where none is known."""
    found = (origin.licence for origin in lineage if origin.licence is not None)
    return next((each for each in found if each not in _PLAIN_LICENCES), None)


def _front_matter(facts: CardFacts) -> str:
    licence = licence_of(facts.lineage)
    entries: list[tuple[str, Any]] = []
    if licence is not None:
        entries.append(("license", licence.lower()))
    if facts.base_model is not None:
        entries.append(("base_model", facts.base_model))
        entries.append(("base_model_relation", _relation(facts)))
    library = "gguf" if facts.form != "folder" else "peft" if facts.kind == "adapter" else "transformers"
    entries += [("library_name", library), ("pipeline_tag", "text-generation"), ("tags", _tags(facts))]
    # JSON is YAML, and quotes whatever a name could be taken for.
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in entries]
    return "\n".join(["---", *lines, "---"])


def _relation(facts: CardFacts) -> str:
    if facts.kind == "adapter":
        return "adapter"
    is_quantized = facts.form.startswith("q") or _first(facts.lineage, "quantization") is not None
    return "quantized" if is_quantized else "finetune"


def _tags(facts: CardFacts) -> list[str]:
    found = ["lorry", *(["lora"] if facts.kind == "adapter" else [])]
    if facts.form != "folder":
        found.append("gguf")
    method = (_first(facts.lineage, "hyperparameters") or {}).get("method")
    return [*found, *([str(method)] if method else [])]


def _first(lineage: Sequence[Origin], name: str) -> Any:
    return next((origin.made_by[name] for origin in lineage if name in origin.made_by), None)


def _introduction(facts: CardFacts) -> str:
    what = _KINDS[facts.kind]
    base = f" for `{facts.base_model}`" if facts.kind == "adapter" and facts.base_model else ""
    made = f", made of `{facts.base_model}`" if facts.kind == "checkpoint" and facts.base_model else ""
    form = "" if facts.form == "folder" else f" as a GGUF file ({facts.form})"
    return f"`{facts.title}` is a {what}{base}{made}{form}."


def _use(facts: CardFacts) -> str:
    if facts.form != "folder":
        flag = "--lora FILE.gguf -m BASE.gguf" if facts.kind == "adapter" else "-m FILE.gguf"
        return f"## How to use\n\n```bash\nllama-cli {flag}\n```"
    if facts.kind == "adapter":
        base = facts.base_model or "the base model's folder"
        program = (
            "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            f"base = {base!r}\nmodel = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), FOLDER)\n"
            "tokenizer = AutoTokenizer.from_pretrained(base)"
        )
    else:
        program = (
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            "model = AutoModelForCausalLM.from_pretrained(FOLDER)\ntokenizer = AutoTokenizer.from_pretrained(FOLDER)"
        )
    return f"## How to use\n\n`FOLDER` is this folder, or its id on a hub.\n\n```python\n{program}\n```"


def _training(lineage: Sequence[Origin]) -> Iterator[str]:
    for origin in lineage:
        made = origin.made_by
        if "hyperparameters" not in made:
            continue
        rows = [*_leaves(made["hyperparameters"])]
        if "seed" in made:
            rows.append(("seed", made["seed"]))
        if made.get("trained_tokens") is not None:
            rows.append(("trained tokens", made["trained_tokens"]))
        parts = [f"## Training of `{origin.name}`", _data(made), "### Hyperparameters", _table(rows)]
        if made.get("metrics"):
            parts += ["### Last metrics", _table(_leaves(made["metrics"]))]
        yield "\n\n".join(part for part in parts if part)


def _data(made: Mapping[str, Any]) -> str:
    files = [(name, made[name]) for name in ("dataset", "validation") if isinstance(made.get(name), Mapping)]
    if not files:
        return ""
    rows = [(name, f"sha256 `{file.get('sha256')}`, {file.get('size_bytes')} bytes") for name, file in files]
    return f"### Data\n\nNot published; identified by digest.\n\n{_table(rows)}"


def _quantization(lineage: Sequence[Origin]) -> Iterator[str]:
    made = next((origin.made_by for origin in lineage if "quantization" in origin.made_by), None)
    if made is None:
        return
    facts = made["quantization"]
    texts = facts.get("perplexity") or {}
    rows = [(name, f"{each.get('before')} | {each.get('after')}") for name, each in texts.items()]
    others = [(name, value) for name, value in _leaves({k: v for k, v in facts.items() if k != "perplexity"})]
    if isinstance(made.get("calibration"), Mapping):
        others.append(("calibration", f"sha256 `{made['calibration'].get('sha256')}`"))
    yield "## Quantization\n\n" + _table(others)
    if rows:
        table = "\n".join(f"| {name} | {values} |" for name, values in rows)
        yield f"### Perplexity\n\n| text | before | after |\n|---|---|---|\n{table}"
    tried = made.get("load_tests") or {}
    if tried:
        yield "### Engines\n\n" + _table([(kind, _tried(each)) for kind, each in tried.items()])


def _tried(found: Mapping[str, Any]) -> str:
    """Return the outcome of a load test, and how many answers are the same as those of the full model."""
    outcome = str(found.get("outcome")).replace("_", " ")
    if found.get("same_answers") is None:
        return outcome
    return f"{outcome}; {found['same_answers']} of {found.get('prompts')} answers as in full precision"


def _measured(facts: CardFacts) -> Iterator[str]:
    sentences = list(facts.checked)
    compared = _first(facts.lineage, "compared") or _first(facts.lineage, "merge")
    if isinstance(compared, Mapping):
        sentences.append(
            f"Merged: the logprobs of {compared.get('tokens')} tokens differ from those of base and adapter by "
            f"{compared.get('logprob_rms')} nats (root mean square), {compared.get('same_best_tokens')} likeliest "
            f"tokens are the same; weights are stored as {compared.get('stored_as')}."
        )
    parts = [_scores(facts.lineage), "\n".join(f"- {sentence}" for sentence in sentences)]
    if any(parts):
        yield "## Evaluation\n\n" + "\n\n".join(part for part in parts if part)


def _scores(lineage: Sequence[Origin]) -> str:
    rows = [
        " | ".join(
            (
                f"| `{origin.name}`",
                each["suite"],
                each["tool"],
                str(each["rows"]),
                f"{each['score']:.4f}",
                _interval(each),
            )
        )
        + " |"
        for origin in lineage
        for each in origin.scores
    ]
    head = "| model | suite | tool | rows | score | 95 % interval |\n|---|---|---|---|---|---|\n"
    return head + "\n".join(rows) if rows else ""


def _interval(score: Mapping[str, Any]) -> str:
    low, high = score.get("low"), score.get("high")
    return "" if low is None or high is None else f"{low:.4f} to {high:.4f}"


def _lineage(lineage: Sequence[Origin]) -> str:
    rows = [
        f"| `{origin.name}` | {origin.kind} | {origin.made_by.get('source', '')} | `{origin.digest}` |"
        for origin in lineage
    ]
    head = "## Lineage\n\n| name | kind | source | sha256 of the folder |\n|---|---|---|---|\n"
    versions = _first(lineage, "versions")
    libraries = ", ".join(f"{name} {version}" for name, version in sorted((versions or {}).items()))
    return head + "\n".join(rows) + (f"\n\nLibraries: {libraries}." if libraries else "")


def _limits(facts: CardFacts) -> str:
    licence = licence_of(facts.lineage)
    stated = f"`{licence}`, that of the base model" if licence else "unknown; ask whoever made the base model"
    return f"## Licence and limits\n\nLicence: {stated}. Whatever limits the base model has hold for this one too."


def _leaves(facts: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{above}{name}.")
        elif value not in (None, [], ""):
            yield f"{above}{name}", value


def _table(rows: Any) -> str:
    lines = [f"| {name} | {_cell(value)} |" for name, value in rows]
    return "\n".join(["| | |", "|---|---|", *lines]) if lines else ""


def _cell(value: Any) -> str:
    text = ", ".join(str(each) for each in value) if isinstance(value, list | tuple) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
