"""The page of errors: every code of the contracts, and what whoever meets it should do.

The advice stands here, since only people read it; a code without advice stops the generator.
"""

from countersign_contracts.errors import PROBLEM_PREFIX, PROBLEMS
from generate_markdown import code, page, table

#: code -> what to do about it.
ADVICE = {
    "malformed": "Mend the request: `detail` says where it stops being JSON, or which header or member is wrong.",
    "unknown_version": "Ask for a version that is served; `versions` lists them.",
    "invalid": "Mend the fields that `errors` lists, each with its name and what is wrong with it.",
    "unauthenticated": "Send a valid credential as `Authorization: Bearer …`. It may be mistyped, expired, replaced,"
    " or its agent revoked; ask for a new one.",
    "forbidden": "Somebody with the role that `detail` names must do it. Repeating it does not help.",
    "not_entitled": "Have somebody decide whom the open stage asks; `detail` says who, and why not this person.",
    "not_enrolled": "Confirm who you are in that channel first: `countersign people link-slack` gives a code for it.",
    "assurance": "Vote over HTTP or the CLI, with a fresh one-time code.",
    "wrong_code": "Give the present code of the authenticator app: each counts once, and for about a minute. `detail`"
    " says what is wrong with this one.",
    "fresh_login": "Log in again (`countersign login`), and repeat it within five minutes; with the person's own token"
    " it needs no login.",
    "identity_mismatch": "Use the credential of the agent you name, or leave the agent out: it is the credential's.",
    "not_found": "Check the id or the path. What belongs to another agent is not found either.",
    "method_not_allowed": "Use a method that the path takes; `/openapi.json` lists them.",
    "conflict": "Read the thing again: it has moved on, and `detail` says to where. Then decide anew.",
    "idempotency_conflict": "Send the body that was sent first with this key or request id, or choose a new one.",
    "already_final": "Nothing: it has ended, and `detail` says how.",
    "digest_mismatch": "Show the approval to the voter again, and send the digest it has now.",
    "stale": "Prepare the change again, against what is declared now: run `countersign apply` once more.",
    "too_large": "Send less: `detail` names the limit.",
    "unsupported_media_type": "Send `application/json`.",
    "locked_out": "Wait until the time in `until`; more tries before it change nothing. For one-time codes an admin can"
    " end it with `countersign people totp --remove NAME`, and then a new generator is needed.",
    "overloaded": "Send it again, with the same idempotency key, after the seconds in `Retry-After`: when some of the"
    " agent's actions have ended, or its approvals were answered. The SDK does.",
    "at_capacity": "Send it again, with the same idempotency key, after the seconds in `Retry-After`; nothing was"
    " stored. The SDK does.",
    "internal": "Report it, with the time: the log of the service says why. Sending it again may work.",
    "unavailable": "Send it again, with the same idempotency key, after the seconds in `Retry-After`; meanwhile nothing"
    " is executed. `countersign status` shows what is not ready.",
}


def errors() -> str:
    """The page. Raises LookupError for a code without advice."""
    if missing := PROBLEMS.keys() - ADVICE.keys():
        raise LookupError(f"what to do about {', '.join(sorted(missing))}? Say so in {__file__}")
    return page(
        "Errors",
        "Over HTTP an error is a problem document (RFC 9457, `application/problem+json`): `type`, `title`, `status`,"
        " `detail` for people, and further members where they help, such as `errors`, one for each wrong field. Over"
        ' NATS the same object is the body of the answer: `{"problem": …}`.',
        f"The `type` is a code of this table after {code(PROBLEM_PREFIX)}. Codes are stable: branch on them.",
        table(
            ("code", "status", "title", "what to do"),
            ((code(name), str(status), title, ADVICE[name]) for name, (status, title) in PROBLEMS.items()),
        ),
        "An action that is denied is no error: it has a state, `denied`, and reasons.",
    )
