"""The Grafana dashboards; laid out and written by `generate_dashboards`.

Every query is run against a real Prometheus by tests/observability, and must give data.
"""

from dashboards_of_actions import ACTIONS, APPROVALS, EXECUTOR
from dashboards_of_the_system import FLEET, LEDGER, SERVICES

DASHBOARDS = (ACTIONS, APPROVALS, FLEET, EXECUTOR, LEDGER, SERVICES)
