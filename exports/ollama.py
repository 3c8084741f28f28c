"""The Modelfile of Ollama: how a model's chats are written, in Go's templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jinja2 import TemplateError
from jinja2.ext import loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment

Chat = Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatFamily:
    """A way to write chats that Ollama needs in its Modelfile."""

    turn: Callable[[str, str], str]
    """Writes a turn of a role; the Go template writes the same."""
    opening: str
    """The beginning of the answer."""
    template: str
    stops: tuple[str, ...]

    def written(self, chat: Chat) -> str:
        """Return the chat as a prompt."""
        return "".join(self.turn(each["role"], each["content"]) for each in chat) + self.opening


@dataclass(frozen=True, slots=True, kw_only=True)
class OllamaChat:
    """How Ollama is to write chats."""

    family: str
    system: str | None
    """The system prompt of chats that bring none; None for none."""


FAMILIES: Final[Mapping[str, ChatFamily]] = {
    "ChatML": ChatFamily(
        turn=lambda role, content: f"<|im_start|>{role}\n{content}<|im_end|>\n",
        opening="<|im_start|>assistant\n",
        template=(
            "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
        ),
        stops=("<|im_start|>", "<|im_end|>"),
    ),
    "Llama 3": ChatFamily(
        turn=lambda role, content: f"<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
        opening="<|start_header_id|>assistant<|end_header_id|>\n\n",
        template=(
            "{{- range .Messages }}<|start_header_id|>{{ .Role }}<|end_header_id|>\n\n{{ .Content }}<|eot_id|>"
            "{{ end }}<|start_header_id|>assistant<|end_header_id|>\n\n"
        ),
        stops=("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    "Gemma": ChatFamily(
        turn=lambda role, content: (
            f"<start_of_turn>{'model' if role == 'assistant' else 'user'}\n{content}<end_of_turn>\n"
        ),
        opening="<start_of_turn>model\n",
        template=(
            '{{- range .Messages }}<start_of_turn>{{ if eq .Role "assistant" }}model{{ else }}user{{ end }}\n'
            "{{ .Content }}<end_of_turn>\n{{ end }}<start_of_turn>model\n"
        ),
        stops=("<start_of_turn>", "<end_of_turn>"),
    ),
    "Mistral": ChatFamily(
        turn=lambda role, content: f" {content}</s>" if role == "assistant" else f"[INST] {content} [/INST]",
        opening="",
        template=(
            '{{- range .Messages }}{{ if eq .Role "assistant" }} {{ .Content }}</s>{{ else }}[INST] {{ .Content }} '
            "[/INST]{{ end }}{{ end }}"
        ),
        stops=("[INST]", "[/INST]"),
    ),
}
"""Name of a family -> how it is written in Go's templates."""
_ASKED: Final = "What is it?"
_CHATS: Final[Sequence[Chat]] = (
    ({"role": "user", "content": "Hello."},),
    (
        {"role": "user", "content": "Hello."},
        {"role": "assistant", "content": "Hello, you."},
        {"role": "user", "content": _ASKED},
    ),
)


def ollama_chat(template: str | None, tokens: Mapping[str, str]) -> OllamaChat | None:
    """Return how chats are written by the Jinja *template*; None where no family writes the same.

    *tokens* has `bos_token` and `eos_token`.
    """
    if template is None:
        return None
    try:
        written = [_rendered(template, chat, tokens) for chat in _CHATS]
    except (TemplateError, TypeError, ValueError):
        return None
    first = tokens.get("bos_token", "")
    # In the second form Ollama adds the first token; in some families that begins a turn and is part of the text.
    for texts in (written, [text.removeprefix(first) for text in written]):
        found = next(filter(None, (_as_family(name, texts) for name in FAMILIES)), None)
        if found is not None:
            return found
    return None


def _as_family(name: str, written: Sequence[str]) -> OllamaChat | None:
    """Return the family of this name if it writes the `_CHATS` as *written*, a default system prompt apart."""
    family = FAMILIES[name]
    plain = [family.written(chat) for chat in _CHATS]
    if list(written) == plain:
        return OllamaChat(family=name, system=None)
    head = written[0].removesuffix(plain[0])
    before, after = family.turn("system", "\0").split("\0")
    is_default = head != written[0] and head.startswith(before) and head.endswith(after) and "system" in before
    if is_default and written[1] == head + plain[1]:
        return OllamaChat(family=name, system=head.removeprefix(before).removesuffix(after))
    return None


def _rendered(template: str, chat: Chat, tokens: Mapping[str, str]) -> str:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols])
    environment.globals["raise_exception"] = _refuse
    given: dict[str, Any] = {"messages": chat, "add_generation_prompt": True, **tokens}
    return environment.from_string(template).render(**given)


def _refuse(message: str) -> str:
    raise TemplateError(message)


def modelfile(model: str, adapter: str | None, chat: OllamaChat | None, licence: str | None) -> str:
    """Return the text of a Modelfile for the files *model* and *adapter* beside it.

    Without a *chat* Ollama uses the template in the GGUF file, as far as it knows it.
    """
    lines = [f"FROM ./{model}"]
    if adapter is not None:
        lines.append(f"ADAPTER ./{adapter}")
    if chat is not None:
        known = FAMILIES[chat.family]
        lines.append(f'TEMPLATE """{known.template}"""')
        lines += [f'PARAMETER stop "{stop}"' for stop in known.stops]
        if chat.system is not None:
            lines.append(f'SYSTEM """{chat.system}"""')
    if licence is not None:
        lines.append(f'LICENSE """{licence}"""')
    return "\n".join(lines) + "\n"
