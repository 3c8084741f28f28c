"""The model in a form is found and replaced, and nothing else is changed."""

from __future__ import annotations

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.form import Form, parse_form
from gateway.errors import InvalidRequest

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=40)


def encoded(fields: dict[str, str | list[str]], file: bytes = b"RIFF") -> tuple[bytes, str]:
    """Body and content type as an HTTP client makes them."""
    request = httpx2.Request("POST", "http://x", data=fields, files={"file": ("a.wav", file, "audio/wav")})
    return request.read(), request.headers["content-type"]


def renamed_to(form: Form, served_name: str) -> bytes:
    return form.for_engine({"model": served_name}, ask_for_usage=False)


@given(model=NAMES, served_name=NAMES, file=st.binary(max_size=200), prompt=st.text(max_size=20))
def test_only_the_model_changes(model: str, served_name: str, file: bytes, prompt: str) -> None:
    body, content_type = encoded({"model": model, "prompt": prompt}, file)
    form = parse_form(body, content_type)
    assert form.model == model
    assert renamed_to(form, model) == body
    renamed = parse_form(renamed_to(form, served_name), content_type)
    assert renamed.model == served_name
    assert renamed_to(renamed, model) == body


@given(body=st.binary(max_size=200))
def test_what_is_no_form_is_refused_and_nothing_else_is_raised(body: bytes) -> None:
    for noise in (body, b"--b\r\n" + body, b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n' + body):
        with pytest.raises(InvalidRequest):
            parse_form(noise, "multipart/form-data; boundary=b")


@pytest.mark.parametrize(("said", "streams"), [("true", True), ("false", False), ("True", True), ("", False)])
def test_a_form_says_whether_it_wants_a_stream(said: str, streams: bool) -> None:
    assert parse_form(*encoded({"model": "m", "stream": said})).is_streamed is streams


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"language": "en"}, "model"),
        ({"model": ""}, "model"),
        ({"model": ["a", "b"]}, "model"),
        ({"model": "x" * 2000}, "model"),
        ({"model": "a", "lora_path": "b@1"}, "lora_path"),
    ],
)
def test_a_form_must_name_one_model_and_no_weights_besides(fields: dict[str, str | list[str]], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_form(*encoded(fields))
    assert refused.value.param == param


@pytest.mark.parametrize("content_type", ["", "application/json", "multipart/form-data", "multipart/form-data; x=y"])
def test_another_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(InvalidRequest, match="multipart/form-data"):
        parse_form(encoded({"model": "m"})[0], content_type)
