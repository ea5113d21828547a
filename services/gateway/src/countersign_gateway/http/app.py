"""The gateway's HTTP application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute

from . import (
    actions,
    agent,
    alerts,
    approvals,
    configuration,
    dead_letters,
    enrolment,
    first_control_layer,
    fleet,
    governance,
    people,
    problems,
    telemetry,
    telemetry_socket,
    tokens,
    webhooks,
)
from .bounded import Bounded
from .context import Parts, PartsOf, Public
from .slack import slack_router
from .versioning import Versioning

DESCRIPTION = """The execution control plane for AI agents: every action is decided by policy, countersigned by a person
where it matters, executed at most once, and proven afterwards.

The path names the version of the API; header `API-Version` or parameter `api_version` may name it too, or instead
(`/api/…`). Every answer says in `API-Version` which version answered."""


class _Application(FastAPI):
    """Takes the routes of its routers as they are.

    FastAPI makes each of them anew for every application, at its first request: a fifth of a second of computing.
    """

    def include_router(self, router: APIRouter, **options: Any) -> None:
        if options:
            raise TypeError("say it where the router is made")
        for route in router.routes:
            if isinstance(route, APIRoute):
                route.unique_id = route.name
            self.router.routes.append(route)


def make_app(parts: Parts | None, health: Sequence[BaseRoute], log: Any, version: str) -> FastAPI:
    """The application; without ``parts`` only good for its OpenAPI document."""
    app = _Application(
        title="Countersign",
        version=version,
        description=DESCRIPTION,
        docs_url=None,  # these pages load their scripts from elsewhere; /openapi.json is whole by itself
        redoc_url=None,
        generate_unique_id_function=lambda route: route.name,
    )
    app.state.parts = parts
    problems.install(app, log)
    app.add_middleware(Versioning)
    app.add_middleware(Bounded)
    app.router.routes.extend(health)
    app.include_router(actions.router)
    app.include_router(approvals.router)
    app.include_router(governance.router)
    app.include_router(dead_letters.router)
    app.include_router(enrolment.router)  # before the paths of one agent: no id hides one of these
    app.include_router(fleet.router)
    app.include_router(telemetry.router)
    app.include_router(telemetry_socket.router)
    app.include_router(agent.router)
    app.include_router(configuration.router)
    app.include_router(people.router)
    app.include_router(tokens.router)
    app.include_router(webhooks.router)
    app.include_router(alerts.router)
    app.include_router(first_control_layer.router)
    app.include_router(slack_router())

    @app.get(
        "/api/v1/trust",
        tags=["audit"],
        name="trust_bundle",
        dependencies=[Depends(Public("public keys, which verifiers need"))],
    )
    async def trust_bundle(parts: PartsOf) -> Response:
        """The public keys, and what each may sign: what a verifier needs besides an export."""
        return Response(parts.trust.to_json(), media_type="application/json")

    _describe_problems(app)
    return app


def _describe_problems(app: FastAPI) -> None:
    generate = app.openapi

    def openapi() -> dict[str, Any]:
        document = generate()
        document.setdefault("components", {}).setdefault("schemas", {})["Problem"] = problems.PROBLEM_SCHEMA
        return document

    app.openapi = openapi  # type: ignore[method-assign]
