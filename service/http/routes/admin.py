"""POST /admin/reload, /admin/rollback: another bundle in the place of the one being served."""

from __future__ import annotations

from fastapi import APIRouter

from momok.service.contract.schemas import ModelRef
from momok.service.http.routes.context import Served, problems

router = APIRouter(prefix="/admin", tags=["admin"])


@router.post("/reload", response_model=ModelRef, responses=problems(409, 422, 500))
def reload(served: Served) -> ModelRef:
    """Serve what the bundle's path leads to now; what cannot be served leaves everything as it was."""
    return served.deployment.reload()


@router.post("/rollback", response_model=ModelRef, responses=problems(409, 422, 500))
def rollback(served: Served) -> ModelRef:
    """Serve the bundle that was served before this one."""
    return served.deployment.rollback()
