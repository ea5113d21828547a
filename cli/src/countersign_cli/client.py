"""The HTTP client of the commands: one request at a time, problems as exceptions.

What only some commands need is imported where it is needed, here and in ``commands``: a command is not to wait for
the imports of servers that it does not start.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from countersign_contracts.errors import CountersignError, Unavailable

from .embedded.datadir import DataDir
from .login_store import LoginStore

if TYPE_CHECKING:
    from .settings import ClientSettings


class Client:
    """Talks to a gateway with a token, or with what ``token`` gives for each request; empty: with none."""

    def __init__(self, url: str, token: str | Callable[[], str]) -> None:
        self.url = url.rstrip("/")
        self._token = token
        # no proxy: a local system must be reached even where one is configured for the internet
        handlers: list[urllib.request.BaseHandler] = []
        if self.url.startswith(("http://127.", "http://localhost", "http://[::1]")):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    @classmethod
    def find(cls, settings: ClientSettings | None = None) -> Client:
        """A client of :func:`gateway_url`, as who is logged in there; raises what to do otherwise."""
        from .settings import ClientSettings

        settings = settings or ClientSettings()
        url = gateway_url(settings)
        if settings.token is not None:
            return cls(url, settings.token)
        store = logins_of(settings)
        if store.get(url) is not None:
            return cls(url, lambda: store.access_token(url, refreshed))
        if settings.url is None:
            return cls(url, (DataDir(settings.data_dir).root / "admin.token").read_text().strip())
        raise CountersignError(
            f"`countersign login`, or set COUNTERSIGN_TOKEN to your token for {url}", code="unauthenticated"
        )

    def get(self, path: str, query: Mapping[str, Any] | None = None, *, timeout_s: float = 30) -> Any:
        """GET; parameters that are None are left out."""
        return self.send("GET", path + query_of(query or {}), timeout_s=timeout_s)

    def all(self, path: str) -> Iterator[Any]:
        """The items of every page."""
        after = None
        while True:
            page = self.get(path, {"limit": 500, "after": after})
            yield from page["items"]
            if (after := page.get("next")) is None:
                return

    def post(self, path: str, body: Any, *, timeout_s: float = 60, headers: Mapping[str, str] | None = None) -> Any:
        """POST a JSON body."""
        return self.send("POST", path, body, timeout_s=timeout_s, headers=headers)

    def delete(self, path: str) -> Any:
        """DELETE."""
        return self.send("DELETE", path)

    def send(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        timeout_s: float = 30,
        headers: Mapping[str, str] | None = None,
    ) -> Any:
        """One request; raises the :class:`CountersignError` that was answered."""
        request = urllib.request.Request(  # noqa: S310  (the user names the URL)
            self.url + path,
            None if body is None else json.dumps(body).encode(),
            {**self._bearer(), "Content-Type": "application/json", **(headers or {})},
            method=method,
        )
        try:
            with self._opener.open(request, timeout=timeout_s) as response:
                raw = response.read()
        except urllib.error.HTTPError as error:
            raise _problem(error.read(), error.code) from None
        except (urllib.error.URLError, TimeoutError, OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"{self.url} does not answer: {reason}; is it running? (`countersign status`)") from None
        return json.loads(raw) if raw else None

    def events(self, path: str, *, silence_s: float = 45) -> Iterator[tuple[str, dict[str, Any]]]:
        """Server-sent events as they come, each with its data; the first, `open`, when the server has begun.

        Ends when the server ends it. Raises the :class:`CountersignError` that was answered, and `unavailable` when
        nothing at all comes for ``silence_s`` seconds.
        """
        headers = {**self._bearer(), "Accept": "text/event-stream"}
        request = urllib.request.Request(self.url + path, None, headers)  # noqa: S310  (the user names the URL)
        try:
            with self._opener.open(request, timeout=silence_s) as response:
                yield "open", {}
                name = ""
                for raw in response:
                    field, _, value = raw.decode().rstrip("\n").partition(": ")
                    if field == "event":
                        name = value
                    elif field == "data":
                        yield name, json.loads(value)
        except urllib.error.HTTPError as error:
            raise _problem(error.read(), error.code) from None
        except (urllib.error.URLError, TimeoutError, OSError, http.client.HTTPException, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise Unavailable(f"{self.url} does not answer: {reason or type(error).__name__}") from None

    def _bearer(self) -> dict[str, str]:
        token = self._token() if callable(self._token) else self._token
        return {"Authorization": f"Bearer {token}"} if token else {}


def gateway_url(settings: ClientSettings) -> str:
    """The system that the environment names, else the local one of this folder; raises what to do otherwise."""
    folder = DataDir(settings.data_dir)
    run = folder.read_run()
    url = settings.url or (run.urls.get("gateway") if run else None)
    if url is None:
        raise Unavailable(
            f"no system found: start one with `countersign up` here (looked in {folder.root}),"
            " or set COUNTERSIGN_URL and `countersign login`, or COUNTERSIGN_TOKEN"
        )
    return url.rstrip("/")


def logins_of(settings: ClientSettings) -> LoginStore:
    """What this user is logged in at."""
    return LoginStore(settings.config_dir)


def refreshed(url: str, refresh_token: str) -> Mapping[str, Any]:
    """The next tokens of a login."""
    issued: Mapping[str, Any] = Client(url, "").post("/api/v1/tokens", {"refresh_token": refresh_token})
    return issued


def query_of(parameters: Mapping[str, Any]) -> str:
    """The query with its question mark: a list is repeated, None is left out, and so is an empty query."""
    given = {k: str(v).lower() if isinstance(v, bool) else v for k, v in parameters.items() if v is not None}
    return "?" + urlencode(given, doseq=True) if given else ""


def segment(text: str) -> str:
    """One path segment."""
    return quote(text, safe="")


def _problem(raw: bytes, status: int) -> CountersignError:
    try:
        return CountersignError.from_problem(json.loads(raw))
    except (ValueError, AttributeError):
        return CountersignError(f"the server answered with HTTP status {status}")
