"""Every endpoint says who may call it, and that is who may."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI

from countersign_contracts.roles import EVERYTHING, PERMISSIONS
from countersign_gateway.http.access import access_of, endpoints, methods_of
from countersign_gateway.http.app import make_app
from countersign_harness.world import World

ROUTES = [route for route in endpoints(make_app(None, [], None, "0").routes) if route.path != "/openapi.json"]


def test_no_endpoint_is_without_a_declared_permission_or_a_public_mark() -> None:
    for route in ROUTES:
        access = access_of(route)
        assert access.permission is None or access.permission in EVERYTHING
        assert access.others is None or access.others in EVERYTHING
        assert access.permission or access.agents or access.public, route.path
    # of each permission there is something that it allows
    assert {access_of(route).permission for route in ROUTES} >= EVERYTHING


def test_one_that_declares_nothing_is_found() -> None:
    app = FastAPI()

    @app.get("/forgotten")
    async def forgotten() -> None:
        return None

    with pytest.raises(LookupError, match="GET /forgotten declares 0 ways of access"):
        access_of(list(endpoints(app.routes))[-1])


def path_of(route: Any) -> str:
    return re.sub(r"\{(\w+)\}", "1", route.path)


async def test_what_an_endpoint_declares_is_what_it_does(door: World) -> None:
    callers = {"": "", "agent": "bot"}
    for role in PERMISSIONS:
        callers[role] = f"a-{role}"
        await door.add_person(callers[role], role)

    for route in ROUTES:
        access, [method] = access_of(route), methods_of(route)
        if method == "WEBSOCKET":
            continue  # test_telemetry.py
        for role, caller in callers.items():
            if role == "":
                wanted = None if access.public else 401
            elif role == "agent":
                wanted = None if access.agents or access.public else 403
            elif (access.public and not access.permission) or access.permission in PERMISSIONS[role]:
                wanted = None
            else:
                wanted = 403
            if wanted is None:
                continue  # allowed: what it then does is other tests' subject
            # an agent's own registration aside, who registers one says so by their token
            status, problem, _ = await door.request(method, path_of(route), {}, as_=caller)
            assert status == wanted, (method, route.path, role or "nobody", problem)
