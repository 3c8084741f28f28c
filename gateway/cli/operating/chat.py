"""`lorry chat`: a chat in the terminal with one model, or with two side by side."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from gateway.cli.client import Client
from gateway.cli.completion import names
from gateway.cli.errors import CommandFailed
from gateway.cli.operating.conversation import Conversation, remark_on
from gateway.cli.operating.turn_display import shown
from gateway.cli.output import JsonFlag, note
from gateway.objects.models import ModelObject

app = typer.Typer()

_HELP: Final = "/system TEXT sets the system prompt, /reset begins anew, /quit or Ctrl-D ends; Ctrl-C ends an answer"


@app.command("chat")
def chat(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Adapter, revision or base model.", autocompletion=names.models)
    ],
    other: Annotated[
        str | None,
        typer.Argument(
            metavar="OTHER", help="A second model, which answers beside the first.", autocompletion=names.models
        ),
    ] = None,
    system: Annotated[str | None, typer.Option(metavar="TEXT", help="System prompt.")] = None,
    temperature: Annotated[
        float | None,
        typer.Option(min=0, max=2, help="Randomness; 0 takes the likeliest token (default: the engine's)."),
    ] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, in tokens.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Chat in the terminal, with one model or two side by side; answers appear as they are generated.

    Where standard input is not a terminal, all of it is one message, and the answer alone is printed. Ctrl-C ends the
    answer that is under way, and generation with it; Ctrl-C at the prompt ends the chat, as /quit and Ctrl-D do.
    """
    asked = {"temperature": temperature, "max_tokens": max_tokens}
    options: dict[str, Any] = {name: value for name, value in asked.items() if value is not None}
    models = [model] if other is None else [model, other]
    with Client() as client:
        for name in models:
            client.get(f"/v1/models/{name}", ModelObject)  # 404 lists the models that there are
        conversation = Conversation(client, models, options, system, session=f"chat-{uuid4().hex[:12]}")
    if sys.stdin.isatty():
        _talk(conversation, as_json)
    else:
        _answer_once(conversation, sys.stdin.read(), as_json)


def _answer_once(conversation: Conversation, text: str, as_json: bool) -> None:
    if not text.strip():
        raise CommandFailed("standard input is empty: write the message into it, or run the command in a terminal")
    with shown(conversation.models, as_json=as_json) as show:
        answers = conversation.say(text.strip(), show)
    failed = [f"{answer.model}: {answer.error}" for answer in answers if answer.error is not None]
    if failed:
        raise CommandFailed("; ".join(failed))


def _talk(conversation: Conversation, as_json: bool) -> None:
    import readline  # noqa: F401  `input` edits lines and remembers them once this is imported

    note(f"{' and '.join(conversation.models)}: {_HELP}")
    while (text := _next_line()) is not None:
        if text.startswith("/"):
            if not _do(conversation, text):
                return
        elif text:
            with shown(conversation.models, as_json=as_json) as show:
                answers = conversation.say(text, show)
            for answer in answers:
                note(remark_on(answer))


def _do(conversation: Conversation, command: str) -> bool:
    """Do what a line with a slash asks for; False ends the chat."""
    word, _, rest = command.partition(" ")
    if word in ("/quit", "/exit", "/q"):
        return False
    if word == "/system":
        conversation.set_system(rest.strip() or None)
        note("The system prompt is set; the chat begins anew." if rest.strip() else "There is no system prompt now.")
    elif word == "/reset":
        conversation.reset()
        note("The chat begins anew.")
    else:
        note(_HELP)
    return True


def _next_line() -> str | None:
    """Return what the person types, None when they are done."""
    try:
        if sys.stdout.isatty():
            return input("> ").strip()
        print("> ", end="", file=sys.stderr, flush=True)  # noqa: T201  standard output is for answers
        return input().strip()
    except (EOFError, KeyboardInterrupt):
        print(file=sys.stderr)  # noqa: T201
        return None
