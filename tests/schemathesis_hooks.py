"""What schemathesis checks besides its own: no 5xx but the contract's."""

from typing import Final

import schemathesis

#: Exact path, status and body of the contract's own 5xx while the store works.
OURS: Final = {
    ("/decrypt-seed", 500, b'{"error":"Decryption failed"}'),
    ("/generate-2fa", 500, b'{"error":"Seed not decrypted yet"}'),
    ("/verify-2fa", 500, b'{"error":"Seed not decrypted yet"}'),
}


@schemathesis.check
def no_fault_but_the_contracts(
    _context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case,
) -> None:
    """In the place of `not_a_server_error`, which knows no exception."""
    said = case.path, response.status_code, response.content
    assert response.status_code < 500 or said in OURS, said


#: Why the v1 API refuses what its document allows: no schema tells a sealed seed of
#: ours, or a cursor of ours, from another text, nor which account counts;
#: none counts bytes.
UNFORESEEN: Final = {
    ("unseal_failed", None),
    ("envelope_refused", None),
    ("malformed", "cursor must be a next_cursor of this call"),
    ("parameters_refused", "An account that counts has no current code"),
    ("parameters_refused", "issuer or label has more than 192 bytes of UTF-8"),
}


@schemathesis.check
def valid_data_is_taken(
    _context: schemathesis.CheckContext,
    response: schemathesis.Response,
    case: schemathesis.Case,
) -> None:
    """In the place of `positive_data_acceptance`, for the v1 API."""
    if not case.path.startswith("/v1/") or response.status_code != 422:
        return
    if case.meta is not None and case.meta.generation.mode.is_positive:
        said = response.json()
        assert (said["code"], said.get("detail")) in UNFORESEEN, said
