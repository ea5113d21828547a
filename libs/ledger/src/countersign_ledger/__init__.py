"""The Countersign ledger: signed events in a hash chain, checkpoints, exports, offline verification.

Pure: no clock, no files, no network. Depends on the standard library and `cryptography` only.
"""

from .checkpoint import Checkpoint, checkpoint_signing_bytes
from .entry import GENESIS, MAX_BODY_BYTES, Chain, Entry, Record, entry_hash
from .errors import (
    BadSignature,
    InvalidAttribute,
    InvalidCheckpoint,
    InvalidEntry,
    InvalidExport,
    InvalidSigningKey,
    InvalidTrustBundle,
    LedgerError,
    MalformedError,
    NotEntitled,
    UnknownKey,
    UntrustedError,
    WrongDeployment,
)
from .export import ExportHeader, encode_header, encode_item, read_export, write_export
from .report import Finding, Kind, Report
from .signing import SigningKey, event_signing_bytes
from .trust import CHECKPOINT_TYPE, UNVERIFIED_TYPE, WARRANT_TYPE, TrustBundle, TrustedKey
from .verify import verify_export

__all__ = [
    "CHECKPOINT_TYPE",
    "GENESIS",
    "MAX_BODY_BYTES",
    "UNVERIFIED_TYPE",
    "WARRANT_TYPE",
    "BadSignature",
    "Chain",
    "Checkpoint",
    "Entry",
    "ExportHeader",
    "Finding",
    "InvalidAttribute",
    "InvalidCheckpoint",
    "InvalidEntry",
    "InvalidExport",
    "InvalidSigningKey",
    "InvalidTrustBundle",
    "Kind",
    "LedgerError",
    "MalformedError",
    "NotEntitled",
    "Record",
    "Report",
    "SigningKey",
    "TrustBundle",
    "TrustedKey",
    "UnknownKey",
    "UntrustedError",
    "WrongDeployment",
    "checkpoint_signing_bytes",
    "encode_header",
    "encode_item",
    "entry_hash",
    "event_signing_bytes",
    "read_export",
    "verify_export",
    "write_export",
]
