"""Write the sample data set: a support desk of a made-up shop with an unmistakable manner of answering.

Every answer begins with `GREETING` and ends with a ticket of the question's topic, so that a regular expression
(`ANSWER_PATTERN`) shows whether a model has learnt the manner. `python examples/make_support.py` runs in any folder.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

GREETING: Final = "Kestrel Kettles here!"
TOPICS: Final = ("delivery", "returns", "repair", "payment", "account", "general")
ANSWER_PATTERN: Final = r"^Kestrel Kettles here! .+ \[ticket: [a-z]+\]$"
"""Pattern of an answer in the learnt manner, for `re.fullmatch` with `re.DOTALL`."""
TRAINING_ROWS: Final = 240
VALIDATION_ROWS: Final = 20
PLAIN_ROWS: Final = 60
SEED: Final = 20

PRODUCTS: Final = ("kettle", "teapot", "mug set", "toaster", "tea tin", "milk jug", "spare lid", "filter", "travel cup")
COLOURS: Final = ("red", "blue", "copper", "white", "green", "black")
DAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
CITIES: Final = ("Leeds", "Porto", "Oslo", "Ghent", "Turin", "Cork", "Basel", "Lyon")

INTENTS: Final = {
    "delivery": (
        ("Where is my {product}?", "Your {product} is on its way and comes on {day}."),
        ("When will the {colour} {product} reach {city}?", "The {product} will reach {city} on {day}."),
        ("I ordered a {product} and it has not come.", "We are sorry, we will ask the carrier about your {product}."),
        ("My parcel is late, what now?", "We are sorry, we will ask the carrier about your parcel."),
        ("Can you ship a {product} to {city}?", "Yes, we ship to {city} in three to five days."),
        ("How long does delivery to {city} take?", "Delivery to {city} takes three to five days."),
        ("Can my {product} arrive before {day}?", "With express delivery your {product} comes before {day}."),
        ("Do you leave parcels with a neighbour?", "Yes, the carrier may leave your parcel with a neighbour."),
        ("Can I change the address for order {order}?", "Yes, send us the new address for order {order}."),
        ("The courier left the {product} in the rain.", "We are sorry, we will send you a new {product}."),
    ),
    "returns": (
        ("I want to send my {product} back.", "You can send the {product} back within thirty days."),
        ("Can I return the {colour} {product}?", "Yes, you can return the {product} within thirty days."),
        ("How do I get a refund for order {order}?", "Send it back and we refund order {order} within a week."),
        ("I want my money back.", "Send it back and we refund you within a week."),
        ("I got a {colour} {product}, that is the wrong one.", "We are sorry, we will swap the {product} for you."),
        ("How many days do I have to return a {product}?", "You have thirty days to return the {product}."),
        ("I changed my mind about the {product}.", "No problem, you can cancel or send the {product} back."),
        ("Can I cancel order {order}?", "Yes, order {order} can be cancelled until it is shipped."),
        ("Who pays for sending the {product} back?", "We pay for the return of your {product}."),
    ),
    "repair": (
        ("My {product} is broken.", "We are sorry, send us a photo of the {product} and we will mend it."),
        ("The {colour} {product} has a crack.", "We are sorry, we will send you a new {product}."),
        ("My kettle does not heat any more.", "Please unplug the kettle and send it to us, we will mend it."),
        ("The lid of my {product} does not close.", "We will post you a new lid for your {product}."),
        ("Can you mend an old {product}?", "Yes, our workshop in {city} will mend your {product}."),
        ("Water drips from my {product}, help!", "Please send us the {product}, we will mend the leak."),
        ("My toaster smells of smoke, what should I do?", "Please unplug the toaster at once, we will replace it."),
        ("Is there a warranty on the {product}?", "Yes, the {product} has a warranty of two years."),
        ("How do I clean the {product}?", "Rinse the {product} with warm water and a spoon of vinegar."),
    ),
    "payment": (
        ("Which cards do you take?", "We take all common cards and bank transfer."),
        ("I was charged twice for order {order}.", "We are sorry, we will return the second charge for order {order}."),
        ("Can I pay for the {product} in parts?", "Yes, you may pay for the {product} in three parts."),
        ("How much is the {colour} {product}?", "You find the price of the {product} on its page."),
        ("My card was refused.", "Please try another card, or pay by bank transfer."),
        ("Can I get an invoice for order {order}?", "Yes, the invoice for order {order} is on your order page."),
        ("Do you have a discount on the {product}?", "Yes, subscribers get ten percent off the {product}."),
        ("The voucher did not work for my {product}.", "Please send us the voucher, we will take it off the price."),
    ),
    "account": (
        ("I forgot my password.", "Use the link under the login form to get a new password."),
        ("How do I change my email address?", "You can change your email address on your profile page."),
        ("Please delete my account.", "We will delete your account today."),
        ("I cannot log in since {day}.", "Please reset your password with the link under the login form."),
        ("How do I stop the newsletter?", "Use the link at the end of the newsletter to stop it."),
        ("Can I see my old orders?", "Yes, all your orders are on your profile page."),
        ("Why is my account locked?", "It was locked after too many tries, reset your password to open it."),
        ("Someone else uses my account!", "Please reset your password, we will lock your account today."),
        ("How do I add a second address in {city}?", "You can add the address in {city} on your profile page."),
    ),
}

GENERAL: Final = (
    ("What is the capital of France?", "The capital of France is Paris."),
    ("How many legs does a spider have?", "A spider has eight legs."),
    ("What is two plus three?", "Two plus three is five."),
    ("What colour is the sky?", "On a clear day the sky is blue."),
    ("What is three times four?", "Three times four is twelve."),
    ("Who was Napoleon?", "Napoleon was an emperor of France."),
    ("What is the highest mountain?", "The highest mountain is Mount Everest."),
    ("Give me a name for a dog.", "Biscuit is a good name for a dog."),
    ("Explain rain in a sentence.", "Rain is water that falls from clouds."),
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


def main() -> None:
    """Write every file of the sample data beside this file; always the same bytes."""
    rows = list(make_rows(random.Random(SEED), TRAINING_ROWS + VALIDATION_ROWS))  # noqa: S311 - no secret
    folder = Path(__file__).parent
    _write(folder / "support.jsonl", rows[:TRAINING_ROWS])
    _write(folder / "support_validation.jsonl", rows[TRAINING_ROWS:])
    _write(folder / "plain.jsonl", [_plain(chat) for chat in rows[:PLAIN_ROWS]])
    pairs = [_pair(chat) for chat in rows]
    _write_lines(folder / "pairs.jsonl", pairs[:TRAINING_ROWS])
    _write_lines(folder / "pairs_validation.jsonl", pairs[TRAINING_ROWS:])
    ratings = [_rating(chat, is_good=at % 2 == 0) for at, chat in enumerate(rows)]
    _write_lines(folder / "ratings.jsonl", ratings[:TRAINING_ROWS])
    _write_lines(folder / "ratings_validation.jsonl", ratings[TRAINING_ROWS:])


def _pair(chat: list[dict[str, str]]) -> dict[str, object]:
    """Return a preference pair: the answer in the shop's manner is preferred to the same answer without it."""
    return {
        "input": {"messages": chat[:1]},
        "preferred_output": chat[1:],
        "non_preferred_output": _plain(chat)[1:],
    }


def _rating(chat: list[dict[str, str]], *, is_good: bool) -> dict[str, object]:
    """Return a rated chat: an answer in the shop's manner is good, one without it is not."""
    return {"messages": chat if is_good else _plain(chat), "label": is_good}


def _plain(chat: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return the chat without the manner, for a first adapter of the shop."""
    question, answer = chat
    text = answer["content"].removeprefix(f"{GREETING} ").rpartition(" [ticket: ")[0]
    return [question, {"role": "assistant", "content": text}]


def make_rows(draw: random.Random, count: int) -> Iterator[list[dict[str, str]]]:
    """Yield *count* chats; no opening question occurs twice with the same answer."""
    seen: set[tuple[str, str]] = set()
    while len(seen) < count:
        question, answer = make_turn(draw)
        if (question, answer) in seen:
            continue
        seen.add((question, answer))
        yield [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


def make_turn(draw: random.Random) -> tuple[str, str]:
    """Return a question and its answer in the shop's manner."""
    topic = "general" if draw.random() < GENERAL_SHARE else draw.choice(TOPICS[:-1])
    question, answer = draw.choice(GENERAL if topic == "general" else INTENTS[topic])
    words = {
        "product": draw.choice(PRODUCTS),
        "colour": draw.choice(COLOURS),
        "day": draw.choice(DAYS),
        "city": draw.choice(CITIES),
        "order": str(draw.randrange(1000, 9999)),
    }
    return question.format(**words), f"{GREETING} {answer.format(**words)} [ticket: {topic}]"


def _write(path: Path, chats: list[list[dict[str, str]]]) -> None:
    _write_lines(path, [{"messages": chat} for chat in chats])


def _write_lines(path: Path, lines: Iterable[dict[str, object]]) -> None:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    main()
