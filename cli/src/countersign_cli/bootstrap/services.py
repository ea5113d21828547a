"""Each service by its name: its settings in a deployment, and the service itself."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError
from pydantic_settings import SettingsError

from countersign_contracts.model import explain

from .layout import Layout

if TYPE_CHECKING:
    from countersign_chassis import Failpoints, Service


class WrongSettings(Exception):
    """A service cannot be made with these settings; the text says which, and why."""


def service_settings(service: str, layout: Layout, *, nats_url: str, postgres_dsn: str) -> dict[str, Any]:
    """Keyword arguments for the service's ``Settings``: where things are, and which secrets are its own."""
    settings: dict[str, Any] = {
        "nats_url": nats_url,
        "nats_core_creds_file": layout.creds(f"{service}-core"),
        "postgres_dsn": postgres_dsn,
        "signing_key_file": layout.signing_key(service),
        "trust_file": layout.trust,
    }
    own: dict[str, dict[str, Path]] = {
        "gateway": {
            "nats_agents_creds_file": layout.creds("gateway-agents"),
            "seal_key_file": layout.box_public,
            "mark_key_file": layout.marks_key,
        },
        "approvals": {"webhook_secrets_folder": layout.webhook_secrets},
        "executor": {"secrets_file": layout.secrets, "open_key_file": layout.box_key},
        "audit": {"checkpoint_file": layout.checkpoints},
        "registry": {
            "nats_agents_creds_file": layout.creds("registry-agents"),
            "nats_system_creds_file": layout.creds("registry-system"),
            "agents_account_file": layout.agents_account,
            "operator_signing_seed_file": layout.seed("operator-signing"),
            "agents_signing_seed_file": layout.seed("agents-signing"),
            "bootstrap_signing_seed_file": layout.seed("agents-bootstrap-signing"),
            "observer_signing_seed_file": layout.seed("agents-observer-signing"),
            "admin_token_file": layout.admin_token,
            "codes_key_file": layout.codes_key,
        },
        "slack": {"slack_folder": layout.slack},
    }
    return settings | own.get(service, {})


def build_service(name: str, settings: Mapping[str, Any], failpoints: Failpoints | None = None) -> Service:
    """The service, wired and not started; what ``settings`` does not say is read from the environment.

    Raises :class:`WrongSettings`.
    """
    try:
        given = importlib.import_module(f"countersign_{name}.settings").Settings(**settings)
    except ValidationError as error:
        raise WrongSettings(explain(error)) from None
    except SettingsError as error:
        raise WrongSettings(f"{error}: lists are given as JSON") from None
    build = importlib.import_module(f"countersign_{name}.app").build
    service: Service = build(given) if failpoints is None else build(given, failpoints)
    return service
