"""What the endpoints declare of who may call them, read off their dependencies, which check just that.

The reference page is made of it, and a test sees that no endpoint is without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from .context import Access


def endpoints(routes: Iterable[Any]) -> Iterator[Any]:
    """Every route below ``routes``, those of included routers too."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is None:
            yield route
        else:
            yield from endpoints(included.routes)


def methods_of(route: Any) -> list[str]:
    """By which methods an endpoint is called."""
    return sorted(getattr(route, "methods", None) or ("WEBSOCKET",))


def access_of(route: Any) -> Access:
    """What a route declares; raises LookupError where it declares nothing, or two things."""
    dependant = getattr(route, "dependant", None)
    found = [] if dependant is None else list(dict.fromkeys(_declared(dependant)))
    if len(found) != 1:
        raise LookupError(
            f"{', '.join(methods_of(route))} {route.path} declares {len(found)} ways of access, and takes one:"
            " Needs, Either, OnlyAgents, Public, or a dependency with an Access of its own"
        )
    return found[0]


def _declared(dependant: Any) -> Iterator[Access]:
    access = getattr(dependant.call, "access", None)
    if isinstance(access, Access):
        yield access
    for each in dependant.dependencies:
        yield from _declared(each)
