"""Checkpoints: audit's signed statement that the ledger had this hash at this sequence.

Kept outside the database too, they make it impossible to rewrite or shorten the ledger quietly. Not here:
when to make one and where to keep it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .errors import InvalidCheckpoint, WrongDeployment
from .fields import U64_MAX, FieldError, Fields, to_base64
from .signing import SigningKey, require_signable
from .text import shown
from .trust import CHECKPOINT_TYPE, TrustBundle, TrustedKey

_TAG: Final = "countersign-checkpoint-v1"
_FIELDS: Final = frozenset({"deployment", "seq", "hash", "time", "keyid", "signature"})


@dataclass(frozen=True)
class Checkpoint:
    """The entry `seq` of `deployment` has `hash`: signed by `keyid` at `time` (RFC 3339, UTC).

    `seq` 0 with the genesis hash states that the ledger was empty.
    """

    deployment: str
    seq: int
    hash: bytes
    time: str
    keyid: str
    signature: bytes

    @classmethod
    def make(cls, key: SigningKey, *, deployment: str, seq: int, hash: bytes, time: str) -> Checkpoint:
        """Sign a checkpoint. Raises InvalidCheckpoint or InvalidAttribute."""
        message = checkpoint_signing_bytes(deployment=deployment, seq=seq, hash=hash, time=time, keyid=key.kid)
        return cls(deployment, seq, hash, time, key.kid, key.sign(message))

    def signing_bytes(self) -> bytes:
        """What `signature` must be over. Raises InvalidCheckpoint or InvalidAttribute."""
        return checkpoint_signing_bytes(
            deployment=self.deployment, seq=self.seq, hash=self.hash, time=self.time, keyid=self.keyid
        )

    def verify(self, bundle: TrustBundle) -> TrustedKey:
        """Return the key that signed it, if it may sign checkpoints here. Raises UntrustedError."""
        if self.deployment != bundle.deployment:
            raise WrongDeployment(
                f"the checkpoint is of deployment {shown(self.deployment)}, the trust bundle of "
                f"{shown(bundle.deployment)}"
            )
        return bundle.verify(self.keyid, CHECKPOINT_TYPE, self.signing_bytes(), self.signature, at=self.time)

    def to_dict(self) -> dict[str, object]:
        """The JSON form: the hash in hex, the signature in base64."""
        return {
            "deployment": self.deployment,
            "seq": self.seq,
            "hash": self.hash.hex(),
            "time": self.time,
            "keyid": self.keyid,
            "signature": to_base64(self.signature),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> Checkpoint:
        """Read the form `to_dict` writes. Raises InvalidCheckpoint, naming the field. Verifies nothing."""
        try:
            fields = Fields(value if isinstance(value, dict) else dict(value), _FIELDS)
            return cls(
                deployment=fields.text("deployment"),
                seq=fields.number("seq"),
                hash=fields.digest("hash"),
                time=fields.text("time"),
                keyid=fields.text("keyid"),
                signature=fields.base64("signature"),
            )
        except FieldError as error:
            raise InvalidCheckpoint(f"checkpoint: {error}") from None


def checkpoint_signing_bytes(*, deployment: str, seq: int, hash: bytes, time: str, keyid: str) -> bytes:
    """The bytes a checkpoint's signature is over: a tag line and the five values, the hash in lowercase hex.

    No line break at the end. Raises InvalidCheckpoint or InvalidAttribute.
    """
    if not 0 <= seq <= U64_MAX or len(hash) != 32:
        raise InvalidCheckpoint("a checkpoint names a sequence from 0 to 2**64 - 1 and a hash of 32 bytes")
    require_signable(("deployment", "time", "keyid"), (deployment, time, keyid))
    return "\n".join((_TAG, deployment, str(seq), hash.hex(), time, keyid)).encode()
