"""The hubs by the names that commands and settings have for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from hubs.hugging_face import HuggingFace
from hubs.modelscope import ModelScope
from hubs.repository import Hub

HUBS: Final[Mapping[str, Hub]] = {"huggingface": HuggingFace(), "modelscope": ModelScope()}
"""Name -> the hub; its client is imported when it is asked first."""
