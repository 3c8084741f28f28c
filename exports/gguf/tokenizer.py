"""A folder's `tokenizer.json` as the tokenizer of a GGUF file: byte-level BPE, and BPE that came from SentencePiece."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer

from exports.errors import NotExportable

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
"""Kinds of tokens, as llama.cpp numbers them."""
_UNSCORED: Final = -10000.0
_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE: Final = "\u2581"
_ROLES: Final = {"bos": "bos_token", "eos": "eos_token", "unk": "unk_token", "pad": "pad_token"}

_LETTERS: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_ENDINGS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD: Final = r"[^\r\n\p{L}\p{N}]?"
_SPLITS: Final[Mapping[str, str]] = {
    rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{{1,3}}{_REST}": "llama-bpe",
    rf"{_ENDINGS}|{_LETTERS}|\p{{N}}{_REST}": "qwen2",
    rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+": "tekken",
}
"""Regular expression by which text is cut before it is tokenized -> llama.cpp's name of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTokenizer:
    """The tokenizer's part of a GGUF file."""

    model: str
    """`gpt2` for byte-level BPE, `llama` for SentencePiece."""
    pre: str
    tokens: tuple[str, ...]
    kinds: tuple[int, ...]
    scores: tuple[float, ...] | None
    """SentencePiece joins the pair with the highest score."""
    merges: tuple[str, ...] | None
    ids: Mapping[str, int]
    """`bos`, `eos`, `unk` and `pad`, those that the tokenizer has."""
    adds_bos: bool
    adds_eos: bool
    adds_space: bool | None
    template: str | None
    """The chat template as Jinja."""


def read_tokenizer(folder: Path, vocabulary: int) -> GgufTokenizer:
    """Return the tokenizer of *folder* with *vocabulary* tokens; `NotExportable` for one that llama.cpp lacks."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise NotExportable("GGUF: the folder has no tokenizer.json")
    stored: dict[str, Any] = json.loads(path.read_bytes())
    config: dict[str, Any] = json.loads((folder / "tokenizer_config.json").read_bytes())
    model = stored["model"]
    if model.get("type") != "BPE":
        raise NotExportable(f"GGUF: tokenizers of the type {model.get('type')!r} are not converted, only BPE")
    if not model["merges"]:
        raise NotExportable("GGUF: the tokenizer has no merges, without which llama.cpp reads no BPE")
    tokens, kinds = _tokens(stored, vocabulary)
    merges = [" ".join(part.replace(" ", "\u0120") for part in pair) for pair in _pairs(model["merges"])]
    is_bytes = _is_byte_level(stored)
    ids = _special_ids(config, tokens)
    adds_bos, adds_eos = _added(Tokenizer.from_file(str(path)), ids)
    return GgufTokenizer(
        model="gpt2" if is_bytes else "llama",
        pre=_pre_tokenizer(stored) if is_bytes else "default",
        tokens=tuple(tokens),
        kinds=tuple(kinds),
        scores=None if is_bytes else tuple(_scores(tokens, kinds, _pairs(model["merges"]))),
        merges=tuple(merges) if is_bytes else None,
        ids=ids,
        adds_bos=adds_bos,
        adds_eos=adds_eos,
        adds_space=None if is_bytes else _adds_space(stored),
        template=read_template(folder, config),
    )


def read_template(folder: Path, config: Mapping[str, Any]) -> str | None:
    """Return the chat template of *folder*: of its own file, else of its tokenizer's *config*; None without one."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return file.read_text()
    found = config.get("chat_template")
    if isinstance(found, list):
        found = next((each["template"] for each in found if each.get("name") == "default"), None)
    return found if isinstance(found, str) else None


def _tokens(stored: Mapping[str, Any], vocabulary: int) -> tuple[list[str], list[int]]:
    """Return every token by its id, and its kind. Ids without a token get a name that no text has."""
    tokens = [f"[PAD{at}]" for at in range(vocabulary)]
    kinds = [UNUSED] * vocabulary
    unknown = stored["model"].get("unk_token")
    placed = [(text, at, _kind(text, unknown)) for text, at in stored["model"]["vocab"].items()]
    for added in stored["added_tokens"]:
        is_unknown = added["content"] == unknown and not _is_byte_level(stored)
        kind = UNKNOWN if is_unknown else CONTROL if added["special"] else USER_DEFINED
        placed.append((added["content"], added["id"], kind))
    for text, at, kind in placed:
        if at >= vocabulary:
            raise NotExportable(f"GGUF: the token {text!r} has id {at}, but the model has {vocabulary} tokens")
        # llama.cpp looks for tokens of these kinds in the text before SentencePiece has replaced spaces.
        tokens[at] = text.replace(_SPACE, " ") if kind == USER_DEFINED else text
        kinds[at] = kind
    return tokens, kinds


def _kind(text: str, unknown: str | None) -> int:
    if _BYTE.fullmatch(text):
        return BYTE
    return UNKNOWN if text == unknown else NORMAL


def _pairs(merges: Sequence[Any]) -> list[tuple[str, str]]:
    """Return merges as pairs, which older files have as texts with a space."""
    split = (each.split(" ", 1) if isinstance(each, str) else each for each in merges)
    return [(left, right) for left, right in split]


def _scores(tokens: Sequence[str], kinds: Sequence[int], pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
    """Yield scores by which SentencePiece joins in the order of the merges."""
    order: dict[str, float] = {}
    for at, (left, right) in enumerate(pairs):
        order.setdefault(left + right, -float(at))
    for token, kind in zip(tokens, kinds, strict=True):
        yield order.get(token, -float(len(pairs))) if kind == NORMAL else 0.0 if kind == BYTE else _UNSCORED


def _steps(part: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """Return the parts of a sequence of pre-tokenizers or normalizers, or the only one."""
    if part is None:
        return []
    nested = part.get("pretokenizers") or part.get("normalizers")
    return list(nested) if nested is not None else [part]


def _is_byte_level(stored: Mapping[str, Any]) -> bool:
    if any(step["type"] == "ByteLevel" for step in _steps(stored.get("pre_tokenizer"))):
        return True
    if not stored["model"].get("byte_fallback"):
        raise NotExportable("GGUF: the tokenizer neither is byte-level BPE nor comes from SentencePiece")
    return False


def _pre_tokenizer(stored: Mapping[str, Any]) -> str:
    """Return llama.cpp's name of the way in which text is cut; `NotExportable` for a way that it lacks."""
    steps = _steps(stored["pre_tokenizer"])
    kinds = [step["type"] for step in steps]
    last = steps[-1]
    if kinds == ["ByteLevel"] and last.get("use_regex", True):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0]["individual_digits"] and last.get("use_regex", True):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not last.get("use_regex", True):
        pattern = steps[0]["pattern"].get("Regex")
        if pattern in _SPLITS:
            return _SPLITS[pattern]
    raise NotExportable(
        f"GGUF: no pre-tokenizer of llama.cpp known here cuts text as this tokenizer.json ({', '.join(kinds)})"
    )


def _adds_space(stored: Mapping[str, Any]) -> bool:
    steps = [*_steps(stored.get("normalizer")), *_steps(stored.get("pre_tokenizer"))]
    return any(
        step["type"] == "Prepend" or (step["type"] == "Metaspace" and step.get("prepend_scheme") != "never")
        for step in steps
    )


def _special_ids(config: Mapping[str, Any], tokens: Sequence[str]) -> dict[str, int]:
    places = {token: at for at, token in enumerate(tokens)}
    found = {}
    for role, field in _ROLES.items():
        named = config.get(field)
        text = named.get("content") if isinstance(named, dict) else named
        if text in places:
            found[role] = places[text]
    return found


def _added(tokenizer: Tokenizer, ids: Mapping[str, int]) -> tuple[bool, bool]:
    """Return whether the tokenizer adds its first and its last special token to a text by itself."""
    encoded = tokenizer.encode("a").ids
    plain = tokenizer.encode("a", add_special_tokens=False).ids
    if encoded == plain:
        return False, False
    return encoded[0] == ids.get("bos"), encoded[-1] == ids.get("eos")
