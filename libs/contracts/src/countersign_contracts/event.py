"""The base of every event: what type it has, who may emit it, on which stream and subject it travels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .model import Frozen
from .services import CORE_SERVICES as CORE_SERVICES
from .services import OPTIONAL_SERVICES as OPTIONAL_SERVICES
from .services import SERVICES as SERVICES

TYPE_PREFIX = "countersign."


@dataclass(frozen=True, slots=True)
class Spec:
    """Where an event lives. ``subject`` may end in ``{token}``: what the event is about.

    ``emitters`` are the services whose signing key may emit it; the trust bundle is made from this.
    """

    stream: str
    subject: str
    emitters: tuple[str, ...]
    version: int = 1

    @property
    def type(self) -> str:
        """The CloudEvents type, e.g. ``countersign.actions.granted.v1``."""
        return f"{TYPE_PREFIX}{self.subject.split('.{')[0]}.v{self.version}"

    @property
    def name(self) -> str:
        """The last word of the subject's fixed part, e.g. ``granted``: the suffix of the event's id."""
        return self.subject.split(".{")[0].rsplit(".", 1)[-1]


#: type -> event class, filled as the classes are defined.
EVENTS: dict[str, type[Event]] = {}


class Event(Frozen):
    """The body of one event. Its id is a function of what it is about, so publishing twice is harmless."""

    spec: ClassVar[Spec]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "spec" in cls.__dict__:
            EVENTS[cls.spec.type] = cls

    def about(self) -> str:
        """What the event is about: the ``ce-subject`` and the first part of the event's id."""
        raise NotImplementedError

    def token(self) -> str:
        """What stands in the NATS subject's last place."""
        return self.about()

    def event_id(self) -> str:
        """``<about>.<name>``."""
        return f"{self.about()}.{self.spec.name}"

    def nats_subject(self) -> str:
        """The concrete NATS subject."""
        return self.spec.subject.format(token=self.token())
