"""A copy of everything that a system cannot make anew, in one file; and a system made of it again.

Of JetStream nothing is copied: what is on the bus is told again from PostgreSQL.
"""

from .archive import Contents
from .make import make_backup
from .restore import restore_backup

__all__ = ["Contents", "make_backup", "restore_backup"]
