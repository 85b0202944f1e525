"""Whom a service believes: authorities that are pinned, and whose a signature is.

An authority is pinned by a name, a prefix that its accounts begin with, and what its
signatures are known by (`otpseal.trust_material`).

Leaves out: how it is kept from being changed (`otpseal.trust_book`), and what an
authority says (`otpseal.seed_claims`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography import x509

from otpseal import certificate_profile, public_jwk
from otpseal.account_id import is_prefix
from otpseal.certificate_profile import SEED_SIGNING
from otpseal.errors import PinRefused
from otpseal.public_jwk import VerifyingKey
from otpseal.seed_claims import is_authority_name
from otpseal.trust_material import read, read_file


@dataclass(frozen=True, slots=True)
class PinnedAuthority:
    """An authority that is trusted.

    Attributes:
        name: what it calls itself in what it signs, [a-z0-9][a-z0-9._-]{0,63}.
        prefix: its accounts begin so; "" for all.
        material: what its signatures are known by, canonical.
    """

    name: str
    prefix: str
    material: str

    @property
    def keys(self) -> dict[str, VerifyingKey]:
        """Its public keys by thumbprint; none if it is pinned by a CA."""
        return dict(read(self.material).keys)

    @property
    def ca(self) -> x509.Certificate | None:
        """The CA that vouches for its keys, if it is pinned by one."""
        return read(self.material).ca


def pin(name: str, prefix: str, file: bytes, *, now: float) -> PinnedAuthority:
    """Return an authority as it is to be pinned.

    Args:
        name: the authority's.
        prefix: its accounts begin so; "" for all.
        file: a JWKS or JWK, or a public key or a CA certificate in PEM form.
        now: Unix seconds; a CA has to be valid.

    Raises:
        PinRefused: one of them cannot be; says why.
        KeyRefused: a key or certificate that is not accepted; says why.
    """
    if not is_authority_name(name):
        raise PinRefused(
            "an authority's name has 1 to 64 characters of a-z, 0-9 and . _ -, and"
            " begins with a letter or digit"
        )
    if prefix and not is_prefix(prefix):
        raise PinRefused(
            "a prefix is an account's id with a slash at its end, such as shop/"
        )
    return PinnedAuthority(name, prefix, read_file(file, now=now))


class Pinned:
    """All pinned authorities, asked whose a signing key is.

    Args:
        authorities: those that are trusted.
        now: Unix seconds; what certificates are judged by.
    """

    def __init__(self, authorities: Iterable[PinnedAuthority], now: float) -> None:
        self._now = now
        self._by_kid: dict[str, tuple[str, VerifyingKey]] = {}
        self._cas: dict[str, x509.Certificate] = {}
        ambiguous = set()
        for authority in authorities:
            material = read(authority.material)
            if material.ca is not None:
                self._cas[authority.name] = material.ca
            for kid, key in material.keys:
                if kid in self._by_kid:
                    ambiguous.add(kid)
                self._by_kid[kid] = authority.name, key
        # A key of two authorities would let the one speak for the other.
        for kid in ambiguous:
            del self._by_kid[kid]

    def find(
        self, *, kid: str | None, algorithm: str, chain: Sequence[bytes]
    ) -> tuple[str, VerifyingKey] | None:
        """Return the authority and its key; None if nobody who is pinned has it.

        Args:
            kid: thumbprint of a key that is pinned itself; None if there is a chain.
            algorithm: as JOSE names it; the key must be of its kind.
            chain: certificates in DER, the signer's first; empty if there is a kid.
        """
        found: tuple[str, VerifyingKey] | None = None
        if not chain:
            found = None if kid is None else self._by_kid.get(kid)
        elif kid is None:
            found = self._vouched_for(chain)
        if found is None or not public_jwk.fits(found[1], algorithm):
            return None
        return found

    def _vouched_for(self, chain: Sequence[bytes]) -> tuple[str, VerifyingKey] | None:
        name = certificate_profile.named_authority(chain)
        ca = None if name is None else self._cas.get(name)
        if name is None or ca is None:
            return None
        key = certificate_profile.verify(
            ca,
            chain,
            purpose=SEED_SIGNING,
            name=certificate_profile.authority_uri(name),
            now=self._now,
        )
        return None if key is None else (name, key)
