"""The help pages of `lorry`: a page for every command, with examples that are right, within 80 columns."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from importlib.metadata import version

import pytest
import typer

from gateway.cli import COMMANDS, app
from gateway.cli.help.examples import EXAMPLES
from tests.gateway.cli.command_tree import context_of, every_command
from tests.gateway.cli.lorry_command import run_lorry

PAGES = dict(every_command())
"""Words of a command -> the command."""


def test_the_version_is_that_of_the_package() -> None:
    for flag in ("--version", "-V"):
        assert run_lorry(flag) == (f"lorry {version('lorry')}\n", "")


def test_the_page_of_all_commands_has_them_by_what_a_person_wants_to_do() -> None:
    page, errors = run_lorry("-h", COLUMNS="80")
    assert errors == ""
    assert page == run_lorry("--help", COLUMNS="80")[0]
    assert re.findall(r"^(\w[\w ]*):$", page, re.MULTILINE) == [
        *("Serve", "Train", "Roll out", "Inspect", "Administer", "Options", "Examples"),
    ]
    assert re.findall(r"^  ([a-z]+)  ", page, re.MULTILINE) == list(COMMANDS)


@pytest.mark.parametrize("words", ["", *PAGES])
def test_every_page_reads_well_in_80_columns(words: str) -> None:
    page, errors = run_lorry(*words.split(), "-h", COLUMNS="80")
    assert errors == ""
    assert page.startswith(f"Usage: {' '.join(['lorry', *words.split()])} ")
    for line in page.partition("\nExamples:\n")[0].splitlines():
        assert len(line) <= 80, line
    assert "<" not in page.partition("\nExamples:\n")[0], "a placeholder names the kind of a value and not the thing"


@pytest.mark.parametrize("words", PAGES)
def test_every_value_has_a_placeholder_and_a_sentence(words: str) -> None:
    command = PAGES[words]
    for parameter in command.get_params(context_of(words, command)):
        record = parameter.get_help_record(context_of(words, command))
        assert record is not None
        left, text = record
        assert "TEXT" not in left.split() or words in ("graders run", "chat"), "only free text is a TEXT"
        assert not re.search(r"<(str|path|file|UUID)>", left) or parameter.metavar, f"{left} has no placeholder"
        assert re.match(r"[A-Za-z`]", text), f"{left} says nothing about itself"


def test_every_command_has_examples_and_no_example_is_left_over() -> None:
    assert set(EXAMPLES) == {"", *PAGES}


def typed_commands() -> Iterator[tuple[str, list[str]]]:
    """Every `lorry` command line in the examples."""
    for examples in EXAMPLES.values():
        for _, typed in examples:
            words = shlex.shlex(typed, posix=True, punctuation_chars=True)
            words.whitespace_split = True
            line: list[str] = []
            for word in [*words, ";"]:
                if re.fullmatch(r"[;|&<>()]+", word):
                    if line[:1] == ["lorry"]:
                        yield typed, line[1:]
                    line = []
                else:
                    line.append(word)


@pytest.mark.parametrize(("typed", "words"), list(typed_commands()), ids=lambda value: str(value)[:60])
def test_every_example_is_understood(typed: str, words: list[str]) -> None:
    name = 2 if " ".join(words[:2]) in PAGES and len(words) > 1 else 1
    command = PAGES[" ".join(words[:name])]
    root = typer.main.get_command(app)
    # Parsing names whatever is not understood; the command is not called.
    command.make_context(words[name - 1], words[name:], parent=typer.Context(root, info_name="lorry"))


def test_a_word_that_is_not_understood_shows_how_the_command_is_typed() -> None:
    _, errors = run_lorry("rollout", "start", code=2)
    assert "Usage: lorry rollout start ADAPTER@N [OPTIONS]" in errors
    assert "Missing argument 'ADAPTER@N'" in errors
    assert "Did you mean 'rollout'" in run_lorry("rolout", code=2)[1]
