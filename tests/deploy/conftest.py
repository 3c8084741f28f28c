"""What the tests of the chart share."""

from __future__ import annotations

import pytest

from tests.deploy.rendered_chart import Renderer


@pytest.fixture(scope="session")
def chart(tmp_path_factory: pytest.TempPathFactory) -> Renderer:
    return Renderer(tmp_path_factory.mktemp("chart"))
