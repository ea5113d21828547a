"""What every service stands on: bus, consumers, database, projections, health, metrics, failpoints. No domain words."""

from .batches import BatchStatement
from .bus import Bus
from .coalescer import Coalescer
from .database import Connection, Database
from .delivery import Delivery, RawDelivery
from .failpoints import NO_FAILPOINTS, Failpoints
from .metrics import Metrics
from .projections import Mirror, Projector
from .service import Service
from .settings import ServiceSettings

__all__ = [
    "NO_FAILPOINTS",
    "BatchStatement",
    "Bus",
    "Coalescer",
    "Connection",
    "Database",
    "Delivery",
    "Failpoints",
    "Metrics",
    "Mirror",
    "Projector",
    "RawDelivery",
    "Service",
    "ServiceSettings",
]
