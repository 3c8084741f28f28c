"""Limits of a key admit what a request asks for, and settle what it used."""

from __future__ import annotations

import pytest

from gateway.edge.form import parse_form
from gateway.edge.http_message import JsonBody
from gateway.edge.token_estimate import Seen, TokenEstimate, tokens_used
from gateway.routing.paths import HOT_PATHS, PathKind

CHAT = HOT_PATHS[b"/v1/chat/completions"]
TEXT = HOT_PATHS[b"/v1/completions"]
EMBEDDINGS = HOT_PATHS[b"/v1/embeddings"]
TOKENIZE = HOT_PATHS[b"/tokenize"]


def answers(fields: str, kind: PathKind = CHAT) -> int:
    return JsonBody(f'{{"model": "x"{fields}}}'.encode(), kind).estimate().answers


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        ("", 256),
        (', "max_tokens": 5', 5),
        (', "max_tokens": 1e5', 100_000),
        (', "max_tokens": 16.0', 16),
        (', "max_tokens": "16"', 16),
        (', "max_tokens": 5, "max_completion_tokens": 7', 7),
        (', "max_tokens": 5, "max_completion_tokens": null', 5),
        (', "max_tokens": null', 256),
        (', "max_tokens": "a"', 256),
        (', "max_tokens": 1.5', 256),
        (', "max_tokens": -5', 0),
        (', "max_tokens": 1e999', 256),
        (', "max_tokens": 1' + "0" * 40, 10**12),
        (', "max_tokens": 5, "n": 3', 15),
        (', "max_tokens": 5, "n": 3.0', 15),
        (', "n": 2', 512),
        (', "max_tokens": 5, "n": null', 5),
        (', "max_tokens": 5, "n": 0', 5),
        (', "max_tokens": 5, "n": "many"', 5),
    ],
)
def test_the_longest_answers_are_what_the_client_allows(fields: str, tokens: int) -> None:
    assert answers(fields) == tokens


@pytest.mark.parametrize(
    ("fields", "tokens"),
    [
        (', "prompt": "a"', 5),
        (', "prompt": ["a", "b", "c"]', 15),
        (', "prompt": [1, 2, 3]', 5),
        (', "prompt": [[1, 2], [3]]', 10),
        (', "prompt": [ ]', 5),
        (', "prompt": ["a", "b"], "n": 2', 20),
        (', "prompt": "a", "best_of": 4', 20),
        (', "prompt": "a", "best_of": 4, "n": 2', 20),
    ],
)
def test_every_prompt_has_its_answers(fields: str, tokens: int) -> None:
    assert answers(', "max_tokens": 5' + fields, TEXT) == tokens


@pytest.mark.parametrize("kind", [EMBEDDINGS, TOKENIZE])
def test_a_path_that_generates_nothing_has_no_answer_to_estimate(kind: PathKind) -> None:
    assert answers(', "input": "a"', kind) == 0


def test_a_picture_is_not_read_as_text() -> None:
    url = "data:image/png;base64," + "A" * 400_000
    body = f'{{"model": "x", "messages": [{{"content": [{{"image_url": {{"url": "{url}"}}}}]}}]}}'.encode()
    assert 1000 < JsonBody(body, CHAT).estimate().prompt < 1100
    cut = b'{"model": "x", "messages": "data:;base64,' + b"A" * 400 + b'"}'
    assert JsonBody(cut, CHAT).estimate().prompt > 1000


def test_neither_is_a_sound() -> None:
    form = b'--b\r\ncontent-disposition: form-data; name="model"\r\n\r\nx\r\n--b--\r\n'
    assert parse_form(form + b" " * 100_000, "multipart/form-data; boundary=b").estimate().total < 2000


SEEN = Seen(status=200, prompt=None, answered=None, total=None, events=None, is_cut=False)


@pytest.mark.parametrize(
    ("seen", "tokens"),
    [
        (SEEN._replace(prompt=9, answered=3, total=12), 12),
        (SEEN._replace(prompt=9, answered=3), 12),
        (SEEN, None),
        (SEEN._replace(events=20), 120),
        (SEEN._replace(events=20, is_cut=True), 120),
        (SEEN._replace(events=20, is_cut=True, prompt=9, answered=1), 29),
        (SEEN._replace(events=20, is_cut=True, total=30), 30),
        (SEEN._replace(status=0, is_cut=True), None),
        (SEEN._replace(status=400), 0),
        (SEEN._replace(status=503), 0),
        (SEEN._replace(status=504), None),
    ],
)
def test_what_was_used_is_what_the_engine_reported_or_the_gateway_saw(seen: Seen, tokens: int | None) -> None:
    assert tokens_used(TokenEstimate(100, 256), seen) == tokens
