"""NATS decentralised JWT identity: keys, the claims they sign, the server that believes them.

It knows NATS and nothing of what is sent over it: accounts, roles and subjects are the caller's topology.

    NatsAuthError
    ├── InvalidKeyError              a seed or public key that is none, or is of another kind
    ├── InvalidClaimError            a name, subject, time or limit that cannot be written down
    ├── AccountPushRefusedError      the server did not take the account JWT into use
    └── AccountPushUnansweredError   unknown whether it did; push again
"""

from .claims import EVERY_USER, account_jwt, creds_file, operator_jwt, read_claims, user_jwt, with_revocations
from .cluster import Cluster, ServerTls
from .keys import (
    InvalidKeyError,
    KeyKind,
    KeyPair,
    NatsAuthError,
    public_key_bytes,
    public_key_kind,
    require_public_key,
)
from .permissions import (
    UNLIMITED,
    AccountLimits,
    ConnectionLimits,
    InvalidClaimError,
    JetStreamLimits,
    Permissions,
    ScopedKey,
)
from .push import AccountPushRefusedError, AccountPushUnansweredError, account_push_permissions, push_account
from .server import server_config, shared_config

__all__ = [
    "EVERY_USER",
    "UNLIMITED",
    "AccountLimits",
    "AccountPushRefusedError",
    "AccountPushUnansweredError",
    "Cluster",
    "ConnectionLimits",
    "InvalidClaimError",
    "InvalidKeyError",
    "JetStreamLimits",
    "KeyKind",
    "KeyPair",
    "NatsAuthError",
    "Permissions",
    "ScopedKey",
    "ServerTls",
    "account_jwt",
    "account_push_permissions",
    "creds_file",
    "operator_jwt",
    "public_key_bytes",
    "public_key_kind",
    "push_account",
    "read_claims",
    "require_public_key",
    "server_config",
    "shared_config",
    "user_jwt",
    "with_revocations",
]
