"""Reports on training files, and reviews that people sign."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Response
from fastapi.responses import HTMLResponse
from pydantic import Field

from corpus.page.page import page_of
from corpus.report import Report
from corpus.sampling import sample_size
from gateway.deps import AuthorDep, CallerDep, GatewayDep, KnownQuery
from gateway.errors import InvalidRequest
from gateway.objects.data_reviews import DataReviewObject, ReviewedRowObject
from gateway.objects.lists import ObjectList
from gateway.openai.types import Body
from registry.errors import Conflict, NotFound
from registry.files.report_store import OPEN, Review
from registry.types import File
from registry.wording.field_faults import written_as

router = APIRouter(prefix="/admin", dependencies=[KnownQuery], tags=["files"])

PAGE: Final[dict[int | str, dict[str, Any]]] = {
    200: {"model": Report, "content": {"text/html": {"schema": {"type": "string"}}}}
}
Sha256 = Annotated[str, written_as("[0-9a-f]{64}", "the 64 hexadecimal digits of a SHA-256")]


class SignedVerdict(Body):
    """The verdict of a person on a row."""

    line: Annotated[int, Field(ge=1)]
    verdict: Literal["good", "bad"]
    note: Annotated[str, Field(max_length=1000)] = ""


class SignReview(Body):
    """Body of `POST /admin/data_reviews`."""

    sha256: Sha256
    seed: Annotated[int, Field(ge=0, le=2**53)]
    rows: Annotated[int, Field(ge=1)]
    """Rows of the file, which decide how many are drawn."""
    verdicts: Annotated[list[SignedVerdict], Field(min_length=1, max_length=500)]


@router.get("/files/{file_id}/report", responses=PAGE, response_model=Report)
async def get_report(
    file_id: str, gateway: GatewayDep, caller: CallerDep, as_page: Annotated[bool, Query(alias="html")] = False
) -> Response | Report:
    """Show the report on a training file, as JSON, or as a page that stands alone with `?html=true`."""
    file = await gateway.ask(gateway.registry.files.get, file_id, caller.sees)
    found = await gateway.ask(gateway.registry.reports.report, file.digest)
    if found is None:
        raise _absent(file)
    report = Report.model_validate(found)
    return HTMLResponse(page_of(report)) if as_page else report


def _absent(file: File) -> Exception:
    if file.report_state in OPEN:
        return Conflict(f"the report on {file.id} is not ready yet; its status becomes processed")
    return NotFound(
        file.report_message or f"there is no report on {file.id}: only files of the purpose fine-tune get one"
    )


@router.post("/data_reviews")
async def sign_review(body: SignReview, gateway: GatewayDep, author: AuthorDep) -> DataReviewObject:
    """Sign a person's judgement of the drawn rows of a file, which revisions trained on these bytes remember."""
    lines = [verdict.line for verdict in body.verdicts]
    if len(set(lines)) != len(lines):
        twice = next(line for line in lines if lines.count(line) > 1)
        raise InvalidRequest(f"verdicts: line {twice} is there twice", param="verdicts")
    if len(lines) != sample_size(body.rows):
        raise InvalidRequest(
            f"verdicts: {len(lines)} rows; of {body.rows} rows {sample_size(body.rows)} are drawn", param="verdicts"
        )
    verdicts = [verdict.model_dump() for verdict in body.verdicts]
    sign = gateway.registry.reports.sign
    return review_object(await gateway.ask(sign, body.sha256, author.caller.tenant, author.name, body.seed, verdicts))


@router.get("/data_reviews")
async def list_reviews(gateway: GatewayDep, caller: CallerDep, sha256: Sha256) -> ObjectList[DataReviewObject]:
    """List the reviews of a file's bytes, newest first."""
    found = await gateway.ask(gateway.registry.reports.reviews, sha256, caller.sees)
    return ObjectList(data=[review_object(review) for review in found])


def review_object(review: Review) -> DataReviewObject:
    """Return the review as the API shows it."""
    verdicts = [ReviewedRowObject.model_validate(dict(verdict)) for verdict in review.verdicts]
    return DataReviewObject(
        id=review.id,
        sha256=review.digest,
        reviewer=review.reviewer,
        seed=review.seed,
        rows=len(verdicts),
        bad=sum(verdict.verdict == "bad" for verdict in verdicts),
        verdicts=verdicts,
        signed_at=review.at,
    )
