"""The subscriber's client: asks an authority for an envelope, brings the receipt back.

As `otpseal.adapters.authority_client`, by which it speaks. What comes back is looked
at for its form alone: whether it is believed is decided where it is imported.
"""

import base64
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from otpseal import base64url
from otpseal.adapters.authority_client import ask
from otpseal.errors import AuthorityUnusable
from otpseal.signed_envelope import MAX_ENVELOPE_CHARS

_ENROL: Final = "/v1/enrol"
_RECEIPTS: Final = "/v1/receipts"
#: A compact serialisation (RFC 7516 section 7.1), or that of a later suite.
_ENVELOPE: Final = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an authority answered.

    Attributes:
        envelope: says that it is one; nothing of it is verified.
        certificate: of the service's key, PEM by its own account; or None.
    """

    envelope: str
    certificate: str | None


@dataclass(frozen=True, slots=True)
class AuthorityConnection:
    """Where an authority is, and how far the way is trusted.

    Attributes:
        url: its root; https, or http on loopback.
        ca_file: CA certificates, PEM, that are trusted instead of the system's.
        insecure_http: whether plain http is spoken to other machines too.
    """

    url: str
    ca_file: Path | None = None
    insecure_http: bool = False

    def enrol(self, csr: bytes, receipt_key: bytes) -> Answer:
        """Send a request; the same one again has the same answer.

        Args:
            csr: PKCS#10, DER.
            receipt_key: the raw Ed25519 key that the receipt will be signed by.

        Raises:
            ConfigurationError: the CA file is none; nothing was sent.
            AuthorityUnusable: says what to do.
        """
        request = {
            "request": base64.b64encode(csr).decode("ascii"),
            "receipt_key": base64url.encode(receipt_key),
        }
        content = self._ask(_ENROL, request)
        envelope, certificate = content.get("envelope"), content.get("certificate")
        if not isinstance(envelope, str) or not _is_envelope(envelope):
            raise AuthorityUnusable(
                "the answer has no envelope: check that the address is that of an"
                " otpseal authority"
            )
        # Whatever that is, it is no reason to lose the seed (`own_certificate`).
        return Answer(envelope, None if certificate is None else str(certificate))

    def send_receipt(self, receipt: str) -> None:
        """Tell the authority that the seed arrived; may be told again.

        Raises:
            ConfigurationError, AuthorityUnusable: as `enrol`.
        """
        self._ask(_RECEIPTS, {"receipt": receipt})

    def _ask(self, path: str, request: dict[str, str]) -> Any:  # noqa: ANN401 - JSON
        return ask(
            self.url.rstrip("/") + path,
            request,
            ca_file=self.ca_file,
            insecure_http=self.insecure_http,
        )


def _is_envelope(text: str) -> bool:
    return len(text) <= MAX_ENVELOPE_CHARS and _ENVELOPE.fullmatch(text) is not None
