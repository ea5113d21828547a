"""The page of permissions: what each role allows, and who may call each endpoint, read off what checks it."""

from countersign_contracts.roles import EVERYTHING, MEANT_FOR, PERMISSIONS
from countersign_gateway.http.access import access_of, endpoints, methods_of
from countersign_gateway.http.app import make_app
from countersign_gateway.http.context import Access
from generate_markdown import code, page, table

#: FastAPI's own, which describes the API and shows nothing else.
_DESCRIPTION = "/openapi.json"


def permissions() -> str:
    """The page. Raises LookupError for an endpoint that does not say who may call it."""
    routes = [route for route in endpoints(make_app(None, [], None, "0").routes) if route.path != _DESCRIPTION]
    return page(
        "Permissions",
        "What a person may is what their roles allow, looked up at each request: the built-in roles below, and those"
        " that are declared ([people and roles](../how-to/people-and-roles.md)). An agent has no role: it acts for"
        " itself.",
        "## Roles",
        table(
            ("permission", *(code(role) for role in PERMISSIONS)),
            (
                (code(each), *("yes" if each in allowed else "" for allowed in PERMISSIONS.values()))
                for each in sorted(EVERYTHING)
            ),
        ),
        "\n".join(f"- {code(role)}: {meant}." for role, meant in MEANT_FOR.items()),
        "## Endpoints",
        "No endpoint is without an entry. `/health/live`, `/health/ready`, `/metrics` and `/openapi.json` are public.",
        table(
            ("endpoint", "a person needs", "an agent", "without a credential"),
            (
                (code(f"{method} {route.path}"), *_cells(access_of(route)))
                for route in sorted(routes, key=lambda route: (route.path, methods_of(route)))
                for method in methods_of(route)
            ),
        ),
    )


def _cells(access: Access) -> tuple[str, str, str]:
    person = code(access.permission) if access.permission else "-"
    if access.others:
        person += f"; for others {code(access.others)}"
    return person, access.agents or "-", access.public or "-"
