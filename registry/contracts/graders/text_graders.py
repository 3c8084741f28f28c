"""Graders that compare texts or run Python."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from pydantic import field_validator

from registry.contracts.graders.grader_spec import GraderSpec, Template

LONGEST_SOURCE_BYTES: Final = 256 * 1024
"""OpenAI's bound on the source of a Python grader."""


class StringCheckGrader(GraderSpec):
    """1 if `input` and `reference` compare as `operation` demands, else 0."""

    type: Literal["string_check"] = "string_check"
    input: Template
    reference: Template
    operation: Literal["eq", "ne", "like", "ilike"]

    def templates(self) -> Mapping[str, str]:
        """Return both texts."""
        return {"input": self.input, "reference": self.reference}


class TextSimilarityGrader(GraderSpec):
    """The likeness of `input` to `reference`, from 0 to 1."""

    type: Literal["text_similarity"] = "text_similarity"
    input: Template
    reference: Template
    evaluation_metric: Literal[
        "fuzzy_match",
        "bleu",
        "gleu",
        "meteor",
        "cosine",
        "rouge_1",
        "rouge_2",
        "rouge_3",
        "rouge_4",
        "rouge_5",
        "rouge_l",
    ]

    @field_validator("evaluation_metric")
    @classmethod
    def _check_metric(cls, metric: str) -> str:
        if metric == "cosine":
            raise ValueError(
                "cosine compares embeddings, which graders do not compute; "
                "fuzzy_match, bleu, gleu, meteor, rouge_1 to rouge_5 and rouge_l compare the texts themselves"
            )
        return metric

    def templates(self) -> Mapping[str, str]:
        """Return both texts."""
        return {"input": self.input, "reference": self.reference}


class PythonGrader(GraderSpec):
    """The number that the function `grade(sample, item)` of `source` returns."""

    type: Literal["python"] = "python"
    source: str
    image_tag: str | None = None

    @field_validator("source")
    @classmethod
    def _check_source(cls, source: str) -> str:
        if len(source.encode(errors="replace")) > LONGEST_SOURCE_BYTES:
            raise ValueError(f"must have at most {LONGEST_SOURCE_BYTES // 1024} KiB")
        return source

    @field_validator("image_tag")
    @classmethod
    def _check_image(cls, image_tag: str | None) -> str | None:
        if image_tag is not None:
            raise ValueError("names an image of OpenAI's that is not here; leave image_tag out")
        return image_tag

    def sources(self) -> Mapping[str, str]:
        """Return the source."""
        return {"source": self.source}
