"""Write the sample data of questions with one right answer, for methods that learn from rewards and preferences.

`questions.jsonl` has prompts with the field `answer`, which a grader looks for in an output. `brief.jsonl` has pairs
for the same prompts: an answer of one sentence is preferred to the same sentence amid idle words. `python
examples/make_questions.py` runs in any folder.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

TRAINING_ROWS: Final = 80
SEED: Final = 21

CAPITALS: Final = (
    "France Paris, Italy Rome, Spain Madrid, Germany Berlin, Portugal Lisbon, Greece Athens, Austria Vienna, "
    "Norway Oslo, Japan Tokyo, China Beijing, Egypt Cairo, Russia Moscow, Cuba Havana, Peru Lima, Ireland Dublin, "
    "Poland Warsaw, Hungary Budapest, Finland Helsinki, Sweden Stockholm, Denmark Copenhagen, Kenya Nairobi, "
    "Canada Ottawa, England London, Turkey Ankara, Belgium Brussels, Iran Tehran, Iraq Baghdad, Scotland Edinburgh, "
    "Thailand Bangkok, Ukraine Kiev, Romania Bucharest, Serbia Belgrade, Chile Santiago, Lebanon Beirut, "
    "Libya Tripoli, Croatia Zagreb, Iceland Reykjavik, Ghana Accra, Wales Cardiff, Bulgaria Sofia"
)
OPPOSITES: Final = (
    "hot cold, big small, up down, left right, black white, old new, fast slow, good bad, day night, happy sad, "
    "open closed, high low, hard soft, wet dry, rich poor, full empty, early late, long short, light dark, loud quiet, "
    "strong weak, true false, first last, near far, "
    "love hate, win lose, buy sell, push pull, north south, east west, summer winter, friend enemy, war peace, "
    "question answer, clean dirty, brave afraid, begin end, wide narrow"
)
YOUNG: Final = (
    "dog puppy, cat kitten, cow calf, horse foal, sheep lamb, hen chick, duck duckling, goat kid, bear cub, "
    "frog tadpole"
)
COLOURS: Final = (
    "grass green, snow white, coal black, a lemon yellow, blood red, the clear sky blue, an orange orange, milk white, "
    "a ripe tomato red, a banana yellow, a strawberry red, a crow black"
)


IDLE_WORDS: Final = (
    ("Sure, I would be happy to help with that!", "Of course, there is much more to say about this."),
    ("That is an interesting question.", "Many people have asked about it over the years."),
    ("Let me think about it for a moment.", "There are, however, several ways to look at it."),
    ("Well, it depends on whom you ask.", "Please let me know if you have any other questions."),
)
"""What stands before and after a sentence that is not brief."""


def main() -> None:
    """Write every file beside this file; always the same bytes."""
    folder = Path(__file__).parent
    rows = list(make_rows())
    random.Random(SEED).shuffle(rows)  # noqa: S311 - no secret
    prompts = [{"messages": _asked(question), "answer": answer} for question, answer, _ in rows]
    pairs = [_pair(question, sentence, IDLE_WORDS[at % 4]) for at, (question, _, sentence) in enumerate(rows)]
    for name, lines in (("questions", prompts), ("brief", pairs)):
        _write_lines(folder / f"{name}.jsonl", lines[:TRAINING_ROWS])
        _write_lines(folder / f"{name}_validation.jsonl", lines[TRAINING_ROWS:])


def make_rows() -> Iterator[tuple[str, str, str]]:
    """Yield questions, each with its answer and a sentence that has the answer in it."""
    for country, capital in _listed(CAPITALS):
        yield f"What is the capital of {country}?", capital, f"The capital of {country} is {capital}."
    for word, other in _listed(OPPOSITES):
        yield f"What is the opposite of {word}?", other, f"The opposite of {word} is {other}."
    for parent, young in _listed(YOUNG):
        yield f"What is a young {parent} called?", young, f"A young {parent} is called a {young}."
    for thing, colour in _listed(COLOURS):
        yield f"What colour is {thing}?", colour, f"The colour of {thing} is {colour}."


def _pair(question: str, sentence: str, idle_words: tuple[str, str]) -> dict[str, object]:
    before, after = idle_words
    return {
        "input": {"messages": _asked(question)},
        "preferred_output": [{"role": "assistant", "content": sentence}],
        "non_preferred_output": [{"role": "assistant", "content": f"{before} {sentence} {after}"}],
    }


def _asked(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


def _listed(text: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before and after the last space of each entry."""
    for entry in text.split(", "):
        first, _, last = entry.rpartition(" ")
        yield first, last


def _write_lines(path: Path, lines: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
