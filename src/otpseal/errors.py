"""Every error that otpseal raises on purpose.

One tree, so that a caller can catch as much or as little as it means to::

    OtpsealError
    ├── ConfigurationError       a setting is missing or contradicts another
    ├── KeyRefused               an RSA key that the policy does not accept
    ├── KeyUnavailable           a key is not there, open to others or locked
    │   └── CertificateExpired   what it signs is believed by nobody any more
    ├── UnsealFailed             a sealed seed did not open; never says why
    ├── SuiteRefused             sealed seeds of this form are switched off
    ├── EnvelopeRefused          an envelope by no pinned authority; never says why
    ├── ClaimsRefused            an authority signed claims that are none
    ├── EnvelopeReplayed         an envelope that was accepted before
    ├── EnvelopeStale            an envelope older than the account's last one
    ├── EnvelopeExpired          an envelope that is not valid now
    ├── EnvelopeMisdirected      an envelope for another service or account
    ├── SeedMissing              the account has no seed yet
    ├── SeedConflict             another seed is already stored
    ├── AccountIdRefused         an account id that the rule does not allow
    ├── FileRefused              a file of accounts that cannot be read at all
    ├── StoreUnavailable         the store cannot be reached, read or written
    │   ├── StoreMismatch        key and store do not belong together
    │   └── PinForged            a pinned authority is not as this service wrote it
    ├── ClockBehind              this machine's clock is behind the store's
    ├── SeedUnreadable           a stored seed does not decrypt
    ├── Unauthenticated          no caller is known by this token or certificate
    ├── Forbidden                the caller's scopes or prefix do not cover this
    ├── CallerRefused            a caller's name, scopes or prefix cannot be
    ├── CallerMissing            there is no such caller to revoke
    ├── PinRefused               an authority cannot be pinned like this
    ├── PinMissing               there is no such pinned authority
    ├── CallerExhausted          a caller asked about too many unknown accounts
    ├── AccountMissing           there is no such account, or not for this caller
    ├── AccountExists            the account's id is taken
    ├── AccountNotPending        there is nothing to confirm
    ├── ParametersRefused        algorithm, digits, period or window out of range
    ├── BackupRefused            a backup cannot be restored, or not here
    ├── MoveRefused              accounts cannot be brought in, or written out, so
    ├── Overloaded               a bounded queue is full
    ├── CodeLogUnwritable        the code log cannot be appended to
    ├── ProofRefused             a commit proof cannot be made or does not verify
    ├── ReceiptRefused           a receipt does not confirm what was sent
    ├── EnrolmentRefused         the authority sends no envelope for this request
    ├── SubscriberRefused        a subscriber or ticket cannot be made or revoked
    ├── RequestRefused           the authority does not answer this request
    │   ├── BindingConflict      the pair is bound to another key
    │   └── CapacityReached      the authority holds as many seeds as it may
    └── AuthorityUnusable        the authority did not give a usable answer

Messages are for people and say what to do. `code` is for programs and never
changes. Neither ever holds a secret or a piece of the input that failed. HTTP
statuses and exit codes are the doors' business.
"""

from typing import ClassVar


class OtpsealError(Exception):
    """Base of all deliberate errors; `str(error)` is fit to be shown."""

    code: ClassVar[str] = "error"


class ConfigurationError(OtpsealError):
    """A setting is missing, malformed or contradicts another."""

    code = "configuration"


class KeyRefused(OtpsealError):
    """An RSA key outside the policy of `otpseal.keypolicy`, or not a key at all."""

    code = "key_refused"


class KeyUnavailable(OtpsealError):
    """A key file is missing, readable by others, or locked by a passphrase.

    Or the token that has the key is not there, or does not let us in.
    """

    code = "key_unavailable"


class CertificateExpired(KeyUnavailable):
    """The authority's signing certificate is not valid now; nothing was sent."""

    code = "certificate_expired"


class UnsealFailed(OtpsealError):
    """A sealed seed did not open.

    One text for every cause (base64, length, padding, content), so that the
    service is no decryption oracle. Takes no argument for the same reason.
    """

    code = "unseal_failed"

    def __init__(self) -> None:
        super().__init__("Decryption failed")


class SuiteRefused(OtpsealError):
    """Sealed seeds of this form are switched off."""

    code = "suite_refused"


class EnvelopeRefused(OtpsealError):
    """An envelope did not open, or not by a pinned authority.

    One text for every cause, and no argument, as for `UnsealFailed`.
    """

    code = "envelope_refused"

    def __init__(self) -> None:
        super().__init__("The envelope is not by a pinned authority for this service")


class ClaimsRefused(OtpsealError):
    """A pinned authority signed claims that are missing or out of range."""

    code = "claims_refused"


class EnvelopeReplayed(OtpsealError):
    """An authority's envelope that was accepted before."""

    code = "envelope_replayed"


class EnvelopeStale(OtpsealError):
    """An authority's envelope, older than the last one accepted for the account."""

    code = "envelope_stale"


class EnvelopeExpired(OtpsealError):
    """An authority's envelope that is no longer, or not yet, valid."""

    code = "envelope_expired"


class EnvelopeMisdirected(OtpsealError):
    """An authority's envelope for another service, or beyond the authority's fence."""

    code = "envelope_misdirected"


class SeedMissing(OtpsealError):
    """The account has no seed yet."""

    code = "seed_missing"


class SeedConflict(OtpsealError):
    """A different seed is already stored for the account."""

    code = "seed_conflict"


class AccountIdRefused(OtpsealError):
    """An account id outside the rule of `otpseal.account_id`; it is never mended.

    Takes no argument: ids come from strangers, and their text is not repeated.
    """

    code = "account_id_refused"

    def __init__(self) -> None:
        super().__init__(
            "an account id has 1 to 128 characters: parts joined by `/`, each of"
            " a-z, 0-9 and . _ @ -, beginning with a letter or digit"
        )


class FileRefused(OtpsealError):
    """A file of accounts is as a whole not readable: format, encryption, size.

    A single bad row is no error but an `otpseal.formats.row.Fault`.
    """

    code = "file_refused"


class StoreUnavailable(OtpsealError):
    """The store cannot be reached, read or written; nothing was decided."""

    code = "store_unavailable"


class StoreMismatch(StoreUnavailable):
    """The private key and the store do not belong together."""

    code = "store_mismatch"


class PinForged(StoreUnavailable):
    """A pinned authority's row was not written by this service; none is believed.

    Takes no argument: what stands in the row is not repeated.
    """

    code = "pin_forged"

    def __init__(self) -> None:
        super().__init__(
            "a pinned authority in the store was not written by this service, so that"
            " none is believed: find out who can write the database, then see"
            " `otpseal authority trust list` and remove what is not genuine"
        )


class SeedUnreadable(OtpsealError):
    """A stored seed does not decrypt: a damaged row or a foreign storage key.

    Attributes:
        account: the account concerned; for the log, not for the network.
    """

    code = "seed_unreadable"

    def __init__(self, account: str) -> None:
        super().__init__(
            f"the stored seed of account {account!r} cannot be read: restore the"
            " database from a backup, or replace the seed with"
            " `otpseal seed replace`"
        )
        self.account = account


class ClockBehind(OtpsealError):
    """This machine's clock contradicts the store's; nothing was decided.

    Verifying by it would reopen steps that are spent.
    """

    code = "clock_behind"

    def __init__(self) -> None:
        super().__init__(
            "this machine's clock is behind the time that the store has seen, or parts"
            " from the database's: set it right, or, if the store is wrong, run"
            " `otpseal clock accept`"
        )


class Unauthenticated(OtpsealError):
    """No valid caller is known by this token or client certificate."""

    code = "unauthenticated"


class Forbidden(OtpsealError):
    """The caller is known, but its scopes or its prefix do not cover this."""

    code = "forbidden"


class CallerRefused(OtpsealError):
    """A caller cannot be made of this name, these scopes or this prefix."""

    code = "caller_refused"


class CallerMissing(OtpsealError):
    """There is no such caller to revoke."""

    code = "caller_missing"


class PinRefused(OtpsealError):
    """An authority cannot be pinned by this name, prefix or key."""

    code = "pin_refused"


class PinMissing(OtpsealError):
    """There is no pinned authority of this name."""

    code = "pin_missing"


class CallerExhausted(OtpsealError):
    """A caller asked about so many unknown accounts that refusals are no longer told.

    Attributes:
        retry_after_s: seconds after which it may look better.
    """

    code = "too_many_unknown_accounts"

    def __init__(self, retry_after_s: int = 60) -> None:
        super().__init__("Too many unknown accounts")
        self.retry_after_s = retry_after_s


class AccountMissing(OtpsealError):
    """There is no such account, or it is outside the caller's prefix."""

    code = "account_missing"


class AccountExists(OtpsealError):
    """The account's id is taken; nothing was changed."""

    code = "account_exists"


class AccountNotPending(OtpsealError):
    """The account is not pending, so there is nothing to confirm."""

    code = "account_not_pending"


class ParametersRefused(OtpsealError):
    """Algorithm, digits, period, window, counter or seed length out of range."""

    code = "parameters_refused"


class BackupRefused(OtpsealError):
    """A backup is damaged, not ours, or not for this store; nothing was changed."""

    code = "backup_refused"


class MoveRefused(OtpsealError):
    """Accounts cannot be brought in from a file, or written out to one, like this."""

    code = "move_refused"


class Overloaded(OtpsealError):
    """A bounded queue is full; the same call may succeed in a moment."""

    code = "overloaded"


class CodeLogUnwritable(OtpsealError):
    """The code log cannot be appended to; nothing was written."""

    code = "code_log_unwritable"


class ProofRefused(OtpsealError):
    """A commit proof cannot be made from this input, or does not verify."""

    code = "proof_refused"


class ReceiptRefused(OtpsealError):
    """A receipt does not confirm an envelope; takes no argument, never says why."""

    code = "receipt_refused"

    def __init__(self) -> None:
        super().__init__("The receipt does not confirm an envelope of this authority")


class EnrolmentRefused(OtpsealError):
    """A request for an envelope is refused; takes no argument, never says why.

    Unknown, expired, revoked and taken tickets look alike, so that nobody learns of
    tickets by asking.
    """

    code = "enrolment_refused"

    def __init__(self) -> None:
        super().__init__(
            "The authority does not answer this request: ask its operator for a new"
            " ticket"
        )


class SubscriberRefused(OtpsealError):
    """A subscriber or ticket cannot be made or revoked like this."""

    code = "subscriber_refused"


class RequestRefused(OtpsealError):
    """The authority refuses a seed request."""

    code = "request_refused"


class BindingConflict(RequestRefused):
    """The subscriber and repository are bound to another public key."""

    code = "binding_conflict"


class CapacityReached(RequestRefused):
    """The authority holds as many seeds as it is allowed to."""

    code = "capacity_reached"


class AuthorityUnusable(OtpsealError):
    """The authority could not be reached or its answer is not a sealed seed."""

    code = "authority_unusable"
