"""Where everything lies in the data folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths below one data folder. Folders with secrets have mode 0700, files 0600."""

    root: Path

    @property
    def admin_token(self) -> Path:
        """The administrator's bearer token."""
        return self.root / "admin.token"

    @property
    def trust(self) -> Path:
        """The trust bundle: public, and what a verifier needs."""
        return self.root / "trust.json"

    @property
    def checkpoints(self) -> Path:
        """The ledger's signed checkpoints, outside the database."""
        return self.root / "checkpoints.jsonl"

    @property
    def secrets(self) -> Path:
        """Connector secrets, a file each; only the executor reads them."""
        return self.root / "secrets"

    @property
    def webhook_secrets(self) -> Path:
        """Signing secrets of webhooks, a file each; only the approvals service reads them."""
        return self.root / "webhook-secrets"

    @property
    def slack(self) -> Path:
        """Slack's tokens and channels, a file each; only the Slack service reads them. Empty: there is no Slack."""
        return self.root / "slack"

    @property
    def postgres_passwords(self) -> Path:
        """The roles' passwords."""
        return self.root / "keys" / "postgres.json"

    @property
    def nats(self) -> Path:
        """nats-server's folder."""
        return self.root / "nats"

    @property
    def nats_config(self) -> Path:
        """nats-server's configuration."""
        return self.nats / "server.conf"

    @property
    def nats_accounts(self) -> Path:
        """What any nats-server must be told of operator, accounts and limits, for a configuration that includes it."""
        return self.nats / "accounts.conf"

    def node(self, name: str) -> Path:
        """The folder of one nats-server of a cluster."""
        return self.nats / name

    @property
    def cluster_secret(self) -> Path:
        """What the nats-servers of a cluster show each other."""
        return self.root / "keys" / "nats-cluster.secret"

    @property
    def agents_account(self) -> Path:
        """The JWT of account AGENTS as bootstrap made it, before revocations."""
        return self.nats / "agents-account.jwt"

    def signing_key(self, service: str) -> Path:
        """A service's event signing key."""
        return self.root / "keys" / f"{service}.json"

    def other_signing_key(self, service: str) -> Path:
        """While that one is rotated: the next one, then the one before. No service is handed it."""
        return self.root / "keys" / f"{service}.other.json"

    @property
    def box_key(self) -> Path:
        """The private keys that open sensitive arguments, the newest first; only the executor reads them."""
        return self.root / "keys" / "executor-box.key"

    @property
    def box_public(self) -> Path:
        """Its public half, for the gateway."""
        return self.root / "keys" / "executor-box.pub"

    @property
    def marks_key(self) -> Path:
        """The gateway's key of marks and requests' digests."""
        return self.root / "keys" / "gateway-marks.key"

    @property
    def codes_key(self) -> Path:
        """The registry's key of one-time codes and their secrets, the newest first."""
        return self.root / "keys" / "registry-codes.key"

    def seed(self, name: str) -> Path:
        """A NATS seed: `operator` (may go offline), `operator-signing`, `agents-signing` and so on."""
        return self.root / "keys" / f"nats-{name}.seed"

    def creds(self, user: str) -> Path:
        """A NATS user's credentials file."""
        return self.root / "keys" / f"{user}.creds"

    def make(self) -> None:
        """Create the folders."""
        for folder in (self.root, self.root / "keys", self.secrets, self.webhook_secrets, self.slack, self.nats):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
