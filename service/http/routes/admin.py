"""POST /admin/reload, /admin/rollback: another bundle in the place of the one being served."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.concurrency import run_in_threadpool

from momok.service.contract.schemas import ModelRef
from momok.service.http.routes.answers import NoParameters, Served, problems

router = APIRouter(prefix="/admin", tags=["admin"])

PROBLEMS = problems(403, 404, 409, 413, 422, 500)


@router.post("/reload", response_model=ModelRef, responses=PROBLEMS)
async def reload(served: Served, _: NoParameters) -> ModelRef:
    """Serve the bundle at the server's path now; one that cannot be served leaves everything as it was."""
    return await run_in_threadpool(served.deployment.reload)


@router.post("/rollback", response_model=ModelRef, responses=PROBLEMS)
async def rollback(served: Served, _: NoParameters) -> ModelRef:
    """Serve the bundle that was served before this one."""
    return await run_in_threadpool(served.deployment.rollback)
