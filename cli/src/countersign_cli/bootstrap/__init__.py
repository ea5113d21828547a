"""The one step that makes a deployment: keys, users, trust bundle, server configuration, topology, database roles.

Running it again changes nothing that exists; it adds what a newer version needs.
"""

from .bus import apply_topology
from .database import prepare_database
from .layout import Layout
from .material import Material, prepare_material
from .nodes import Node, read_node
from .services import WrongSettings, build_service, service_settings

__all__ = [
    "Layout",
    "Material",
    "Node",
    "WrongSettings",
    "apply_topology",
    "build_service",
    "prepare_database",
    "prepare_material",
    "read_node",
    "service_settings",
]
