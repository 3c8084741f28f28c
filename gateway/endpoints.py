"""Every endpoint outside of the hot path, and what all of them share."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any, Final

from fastapi import APIRouter, Depends
from starlette.routing import BaseRoute

from gateway.admin import adapters as admin_adapters
from gateway.admin import audit as admin_audit
from gateway.admin import bases as admin_bases
from gateway.admin import data_reports as admin_data_reports
from gateway.admin import estimates as admin_estimates
from gateway.admin import feedback as admin_feedback
from gateway.admin import forced as admin_forced
from gateway.admin import ids as admin_ids
from gateway.admin import jobs as admin_jobs
from gateway.admin import keys as admin_keys
from gateway.admin import observations as admin_observations
from gateway.admin import owners as admin_owners
from gateway.admin import replicas as admin_replicas
from gateway.admin import reproductions as admin_reproductions
from gateway.admin import rollouts as admin_rollouts
from gateway.admin import status as admin_status
from gateway.admin.evaluating import evaluations as admin_evaluations
from gateway.admin.evaluating import outside_tools as admin_outside_tools
from gateway.admin.weights import exports as admin_exports
from gateway.admin.weights import lineage as admin_lineage
from gateway.admin.weights import merges as admin_merges
from gateway.admin.weights import quantizations as admin_quantizations
from gateway.http import health
from gateway.http.content_types import check_content_type
from gateway.http.description import docs_page
from gateway.http.description.openapi import operation_name
from gateway.objects.problems import ErrorEnvelope
from gateway.openai import (
    batches,
    feedback,
    files,
    fine_tuning,
    graders,
    hot_paths,
    models,
    permissions,
    responses,
    uploads,
)

ROUTERS: Final = (
    hot_paths.router,
    models.router,
    files.router,
    uploads.router,
    batches.router,
    fine_tuning.router,
    permissions.router,
    graders.router,
    feedback.router,
    responses.router,
    admin_adapters.router,
    admin_owners.router,
    admin_bases.router,
    admin_data_reports.router,
    admin_evaluations.router,
    admin_outside_tools.router,
    admin_feedback.router,
    admin_forced.router,
    admin_reproductions.router,
    admin_lineage.router,
    admin_exports.router,
    admin_merges.router,
    admin_quantizations.router,
    admin_rollouts.router,
    admin_observations.router,
    admin_jobs.router,
    admin_estimates.router,
    admin_replicas.router,
    admin_keys.router,
    admin_audit.router,
    admin_status.router,
    admin_ids.router,
    health.router,
    docs_page.router,
)

ERROR_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": ErrorEnvelope, "description": "The request cannot be done; `error.code` has why."},
    "5XX": {"model": ErrorEnvelope, "description": "Lorry could not do it now."},
}
"""Errors of every endpoint, for the description."""


@cache
def routes() -> Sequence[BaseRoute]:
    """Return the routes of all endpoints.

    FastAPI analyses a route anew for each application that includes its router, when a request first comes by. That
    takes 0.3 s of processor time for all of them, which the applications of one process share.
    """
    shared = APIRouter(
        generate_unique_id_function=operation_name,
        responses=ERROR_ANSWERS,
        dependencies=[Depends(check_content_type)],
        redirect_slashes=False,
        strict_content_type=False,  # `check_content_type` is, with an error that says so
    )
    for router in ROUTERS:
        shared.include_router(router)
    return tuple(shared.routes)
