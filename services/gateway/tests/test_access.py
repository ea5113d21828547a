"""Every endpoint says who may call it, and that is who may."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi import FastAPI

from countersign_contracts.roles import EVERYTHING, PERMISSIONS
from countersign_gateway.http.access import access_of, endpoints, methods_of
from countersign_gateway.http.app import make_app
from countersign_harness.stack import Stack
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


async def test_what_an_endpoint_declares_is_what_it_does(stack: Stack) -> None:
    world = World(stack)
    try:
        world.services["registry"] = await stack.service("registry")
        world.services["gateway"] = await stack.service("gateway")
        world.url = f"http://127.0.0.1:{world.services['gateway'].http.port}"
        world.tokens["admin"] = stack.layout.admin_token.read_text().strip()
        for role in PERMISSIONS:
            name = f"a-{role}"
            body = {"name": name, "roles": [role]}
            world.tokens[role] = (await world.ok("POST", "/api/v1/people", body))["token"]
        agent = {"agent_id": "bot", "name": "Bot", "owner": {"team": "t"}, "profile": "p", "environments": ["dev"]}
        await world.ok("POST", "/api/v1/agents", agent)
        issued = await world.ok("POST", "/api/v1/agents/bot/credentials", {"kinds": ["http"]})
        world.tokens["agent"] = issued["http_token"]

        for route in ROUTES:
            access, [method] = access_of(route), methods_of(route)
            if method == "WEBSOCKET":
                continue  # test_telemetry.py
            for role in ("", "agent", *PERMISSIONS):
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
                status, problem, _ = await world.request(method, path_of(route), {}, as_=role)
                assert status == wanted, (method, route.path, role or "nobody", problem)
    finally:
        await world.stop()
