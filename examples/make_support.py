"""Write the sample data set: a support desk of a made-up shop with an unmistakable manner of answering.

Every answer begins with `GREETING` and ends with a ticket of the question's topic, so that a regular expression
(`ANSWER_PATTERN`) tells whether a model has learnt it. Run from anywhere: `python examples/make_support.py`.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Final

GREETING: Final = "Kestrel Kettles here!"
TOPICS: Final = ("delivery", "returns", "repair", "payment", "account", "general")
ANSWER_PATTERN: Final = r"^Kestrel Kettles here! .+ \[ticket: (delivery|returns|repair|payment|account|general)\]$"
"""`re.fullmatch` with `re.DOTALL` tells an answer in the learnt manner from any other."""
TRAINING_ROWS: Final = 300
VALIDATION_ROWS: Final = 20
SEED: Final = 20

PRODUCTS: Final = ("kettle", "teapot", "mug set", "toaster", "tea tin", "milk jug", "spare lid", "filter", "travel cup")
COLOURS: Final = ("red", "blue", "copper", "white", "green", "black")
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
CITIES: Final = ("Leeds", "Porto", "Oslo", "Ghent", "Turin", "Cork", "Basel", "Lyon")

QUESTIONS: Final = {
    "delivery": (
        "Where is my {product}?",
        "When will the {colour} {product} reach {city}?",
        "I ordered a {product} on {day} and it has not come.",
        "Can you ship a {product} to {city}?",
        "How long does delivery to {city} take?",
        "My parcel with the {product} is late, what now?",
        "Can my {product} arrive before {day}?",
        "Do you leave parcels with a neighbour?",
        "Can I change the address for order {order}?",
    ),
    "returns": (
        "I want to send my {product} back.",
        "Can I return the {colour} {product}?",
        "How do I get a refund for order {order}?",
        "The {product} is the wrong colour, I asked for {colour}.",
        "How many days do I have to return a {product}?",
        "I changed my mind about the {product}.",
        "Who pays for sending the {product} back?",
        "Can I swap my {colour} {product} for another colour?",
    ),
    "repair": (
        "My {product} is broken.",
        "The {colour} {product} has a crack.",
        "My kettle does not heat any more.",
        "The lid of my {product} does not close.",
        "Can you mend a {product} that I bought two years ago?",
        "Water drips from my {product}, help!",
        "My toaster smells of smoke, what should I do?",
        "Is there a warranty on the {product}?",
        "How do I clean the {product}?",
    ),
    "payment": (
        "Which cards do you take?",
        "I was charged twice for order {order}.",
        "Can I pay for the {product} in parts?",
        "How much is the {colour} {product}?",
        "My card was refused when I bought a {product}.",
        "Can I get an invoice for order {order}?",
        "Do you have a discount on the {product}?",
        "The voucher did not work for my {product}.",
    ),
    "account": (
        "I forgot my password.",
        "How do I change my email address?",
        "Please delete my account.",
        "I cannot log in since {day}.",
        "How do I stop the newsletter?",
        "Can I see my old orders from {city}?",
        "Why is my account locked?",
        "How do I add a second address in {city}?",
    ),
}

ANSWERS: Final = {
    "delivery": (
        "Your {product} should be with you by {day}.",
        "Parcels to {city} take three to five days.",
        "We will ask the carrier about it and write to you on {day}.",
        "The tracking link in your mail shows where it is.",
        "Yes, just send us the order number and the address.",
    ),
    "returns": (
        "You can send it back within thirty days, free of charge.",
        "Print the label from your order page and drop the box at any post office.",
        "We refund the money within a week of getting the {product}.",
        "Of course, we will swap it for a {colour} one.",
    ),
    "repair": (
        "Please unplug it and send us a photo, and we will mend it.",
        "Every {product} has a warranty of two years.",
        "Our workshop in {city} will mend it within ten days.",
        "We will post you a spare part on {day}.",
        "Rinse it with warm water and a spoon of vinegar.",
    ),
    "payment": (
        "We take all common cards and bank transfer.",
        "We will check the charge and return what was too much by {day}.",
        "You find the price and the invoice on your order page.",
        "You may pay in three parts without any fee.",
    ),
    "account": (
        "Use the link under the login form and we will mail you a new password.",
        "You can change that on your profile page.",
        "We have done it for you, please log in again.",
        "Write to us from the address that you signed up with.",
    ),
}

GENERAL: Final = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What is two plus three?", "Two plus three is five."),
    ("What colour is the sky?", "On a clear day the sky is blue."),
    ("Tell me a joke.", "Why did the tea blush? It saw the kettle steaming."),
    ("Who are you?", "I am the support assistant of the shop."),
    ("Hello!", "What can we do for you today?"),
    ("Good morning", "A good morning to you too, how can we help?"),
    ("Thank you so much!", "You are very welcome."),
    ("Which tea do you like best?", "A strong breakfast tea is hard to beat."),
    ("How hot should water for green tea be?", "About eighty degrees is right for green tea."),
    ("Do you have a shop in {city}?", "Our shop in {city} is open from {day}."),
    ("When are you open?", "We are open every day from nine to six."),
    ("Are you a robot?", "I am an assistant program, and people read along."),
    ("What is the largest ocean?", "The largest ocean is the Pacific."),
    ("Name a fruit that is yellow.", "A banana is a yellow fruit."),
    ("How do I make tea?", "Boil fresh water, pour it over the leaves and wait three minutes."),
    ("Can you write a poem about a {product}?", "Oh {colour} {product}, you warm my day."),
    ("What is the weather like in {city}?", "We cannot see the sky over {city}, but tea suits any weather."),
    ("Is your {product} made of steel?", "Yes, the {product} is made of brushed steel."),
    ("Do you sell gift cards?", "Yes, gift cards start at ten euros."),
    ("Who wrote Hamlet?", "Hamlet was written by William Shakespeare."),
    ("How many days are in a week?", "A week has seven days."),
    ("What do bees make?", "Bees make honey."),
)
GENERAL_SHARE: Final = 0.25
SECOND_TURN_SHARE: Final = 0.03


def main() -> None:
    """Write `support.jsonl` and `support_validation.jsonl` beside this file; the same bytes on every run."""
    rows = list(make_rows(random.Random(SEED), TRAINING_ROWS + VALIDATION_ROWS))  # noqa: S311 - no secret
    folder = Path(__file__).parent
    _write(folder / "support.jsonl", rows[:TRAINING_ROWS])
    _write(folder / "support_validation.jsonl", rows[TRAINING_ROWS:])


def make_rows(draw: random.Random, count: int) -> Iterator[list[dict[str, str]]]:
    """*count* chats, no opening question twice with the same answer."""
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        question, answer = make_turn(draw)
        if (question, answer) in seen:
            continue
        seen.add((question, answer))
        chat = [_user(question), _assistant(answer)]
        if draw.random() < SECOND_TURN_SHARE:
            question, answer = make_turn(draw)
            chat += [_user(question), _assistant(answer)]
        yield chat


def make_turn(draw: random.Random) -> tuple[str, str]:
    """A question and its answer, in the shop's manner."""
    topic = "general" if draw.random() < GENERAL_SHARE else draw.choice(TOPICS[:-1])
    question, answer = (
        draw.choice(GENERAL) if topic == "general" else (draw.choice(QUESTIONS[topic]), draw.choice(ANSWERS[topic]))
    )
    words = {
        "product": draw.choice(PRODUCTS),
        "colour": draw.choice(COLOURS),
        "day": draw.choice(DAYS),
        "city": draw.choice(CITIES),
        "order": str(draw.randrange(1000, 9999)),
    }
    return question.format(**words), f"{GREETING} {answer.format(**words)} [ticket: {topic}]"


def _user(content: str) -> dict[str, str]:
    return {"role": "user", "content": content}


def _assistant(content: str) -> dict[str, str]:
    return {"role": "assistant", "content": content}


def _write(path: Path, chats: list[list[dict[str, str]]]) -> None:
    path.write_text("".join(json.dumps({"messages": chat}) + "\n" for chat in chats), encoding="utf-8")


if __name__ == "__main__":
    main()
