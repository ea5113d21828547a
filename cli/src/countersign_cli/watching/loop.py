"""The watch itself: keys in, orders out to a thread that speaks with the gateway, news in, and the screen."""

from __future__ import annotations

import json
import queue
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.live import Live

from countersign_contracts.errors import CountersignError

from ..client import Client
from . import feed
from .board import Board, Cast, Load, Order, Quit, Reload
from .screen import Screen
from .terminal import Terminal

#: How often times on the screen move, and the shortest time between two readings of the list, in seconds.
_TICK_S, _BETWEEN_S = 1.0, 0.3

News = Callable[[Board], list[Order] | None]


class Watch:
    """One watch on one terminal."""

    def __init__(self, client: Client, filters: dict[str, Any], mine: bool, console: Console) -> None:
        self._client = client
        self._filters = filters
        self._console = console
        self._board = Board(mine=mine)
        self._news: queue.Queue[News | CountersignError] = queue.Queue()
        self._orders: queue.Queue[Order | None] = queue.Queue()
        self._stale = threading.Event()
        self._ended = threading.Event()
        self._wake: Callable[[], None] = lambda: None

    def run(self, fd: int) -> list[str]:
        """Watch until the person leaves; what was voted, in words. Raises what waiting will not mend."""
        with Terminal(fd) as terminal:
            self._wake = terminal.wake
            threads = [threading.Thread(target=work, daemon=True) for work in (self._follow, self._work)]
            for thread in threads:
                thread.start()
            live = Live(Screen(self._board), console=self._console, screen=True, auto_refresh=False)
            try:
                with suppress(EOFError, KeyboardInterrupt), live:
                    self._attend(terminal, live)
            finally:
                self._ended.set()
                self._wake = lambda: None
                self._orders.put(None)
        return self._board.done

    def _attend(self, terminal: Terminal, live: Live) -> None:
        read_at = 0.0
        while True:
            live.update(Screen(self._board), refresh=True)
            for key in terminal.keys(_BETWEEN_S if self._stale.is_set() else _TICK_S):
                if not self._take(self._board.press(key)):
                    return
            while not self._news.empty():
                news = self._news.get()
                if isinstance(news, CountersignError):
                    raise news
                self._take(news(self._board) or [])
            if self._stale.is_set() and time.monotonic() - read_at >= _BETWEEN_S:
                self._stale.clear()
                read_at = time.monotonic()
                self._orders.put(Reload(self._board.mine))

    def _take(self, orders: list[Order]) -> bool:
        """Hand orders on; false when it is over."""
        for order in orders:
            if isinstance(order, Quit):
                return False
            self._orders.put(order)
        return True

    def _tell(self, news: News | CountersignError) -> None:
        self._news.put(news)
        self._wake()

    # --- the other threads ------------------------------------------------------------------------

    def _follow(self) -> None:
        try:
            feed.follow(
                self._client,
                lambda live, words: self._tell(lambda board: board.linked(live, words)),
                lambda _name, _data: self._changed(),
                self._ended,
            )
        except CountersignError as error:
            self._tell(error)
        except Exception as error:
            self._tell(_failure(error))

    def _changed(self) -> None:
        """Something happened: the list is read again, not more often than people can see."""
        self._stale.set()
        self._wake()

    def _work(self) -> None:
        """Do what was ordered, one after the other."""
        while (order := self._orders.get()) is not None:
            try:
                self._tell(self._done(order))
            except CountersignError as error:
                self._tell(_refusal(error, order))
            except Exception as error:
                self._tell(_failure(error))

    def _done(self, order: Order) -> News:
        match order:
            case Reload(mine=mine):
                items, more = feed.pending(self._client, self._filters, mine)
                return lambda board: board.listed(items, more)
            case Load(ids=ids):
                found = feed.whole(self._client, ids)
                return lambda board: board.loaded(found)
            case Cast():
                lines, wrong = feed.cast(self._client, order)
                return lambda board: board.counted(lines, wrong)
        raise TypeError(f"nobody can do {order}")


def _failure(error: Exception) -> CountersignError:
    return CountersignError(f"the watch failed, please report it: {error!r}")


def _refusal(error: CountersignError, order: Order) -> News:
    if isinstance(order, Cast):
        return lambda board: board.refused(error.detail, error.code, order)
    return lambda board: board.failed(error.detail)


def print_events(client: Client, say: Callable[[str], None]) -> None:
    """A line of JSON for each event, for programs; ``say`` is told in words when the gateway is away or back."""

    def linked(live: bool, words: str) -> None:
        say("following" if live else words)

    def heard(_: str, data: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
        sys.stdout.flush()

    with suppress(KeyboardInterrupt, BrokenPipeError):
        feed.follow(client, linked, heard, threading.Event())
