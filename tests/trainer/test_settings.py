"""Settings have defaults, and an error names a wrong one."""

from __future__ import annotations

from pathlib import Path

import pytest

from registry.errors import SettingsInvalid
from trainer.settings import trainer_settings


def test_work_is_below_the_home_unless_it_is_said_otherwise() -> None:
    assert trainer_settings({}, Path("/home")).work == Path("/home/jobs")
    assert trainer_settings({"trainer": {"work": "/elsewhere"}}, Path("/home")).work == Path("/elsewhere")


def test_addresses_come_from_the_environment_unless_they_are_set() -> None:
    around = {"LORRY_URL": "http://127.0.0.1:9", "RAY_ADDRESS": "127.0.0.1:6379"}
    found = trainer_settings({"trainer": {"placement": "ray"}}, Path("/home"), around)
    assert (found.gateway_url, found.ray_address) == ("http://127.0.0.1:9", "127.0.0.1:6379")
    set_here = {"placement": "ray", "ray_address": "10.0.0.1:6379"}
    assert trainer_settings({"trainer": set_here}, Path("/home"), around).ray_address == "10.0.0.1:6379"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"thread": 2}, r"\[trainer\] unknown setting thread; did you mean 'threads'"),
        ({"threads": 0}, r"\[trainer\] threads"),
        ({"placement": "ray"}, r"\[trainer\].*placement 'ray' needs ray_address, or RAY_ADDRESS"),
        ({"lease_s": 2.0}, r"lease_s 2.0 must be at least three times poll_s 1.0"),
    ],
)
def test_a_wrong_knob_is_named(fields: dict[str, object], expected: str) -> None:
    with pytest.raises(SettingsInvalid, match=expected):
        trainer_settings({"trainer": fields}, Path("/home"))
