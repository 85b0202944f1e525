"""Containers that factories write: from bytes to entries (RFC 6030).

Read: version 1.0, HOTP and TOTP keys, in clear or encrypted, signed or not. What of
RFC 6030 is refused, and why, stands in docs/pskc.md. Everything that could be read in
two ways is refused; nothing of a key is believed before its signature and its MAC.

Leaves out: which keys clash with each other or with accounts (`otpseal.moving`).
"""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from otpseal.errors import FileRefused
from otpseal.formats.pskc.ciphers import algorithm_of
from otpseal.formats.pskc.keys import entry_of
from otpseal.formats.pskc.protection import Protection, Unlocking, protection_of
from otpseal.formats.pskc.signing import Signers, signed_part
from otpseal.formats.pskc.tree import MAX_BYTES, PSKC, XENC, Node, node_of, read
from otpseal.formats.row import Entry, Fault, RowError

_VERSION: Final = "1.0"
_METHOD: Final = f"{XENC}EncryptionMethod"
_SEALED: Final = frozenset({f"{PSKC}EncryptedValue", f"{PSKC}MACKey"})


def parse(
    content: bytes,
    unlocking: Unlocking,
    *,
    now: float,
    signers: Signers | None = None,
    require_signature: bool = False,
    max_bytes: int = MAX_BYTES,
) -> list[Entry | Fault]:
    """Return an entry or a fault for every key of a container, numbered from 1.

    Args:
        content: the XML.
        unlocking: what opens it.
        now: Unix time, which certificates and dates are compared with.
        signers: whose signatures are believed.
        require_signature: whether a container without one is refused.
        max_bytes: largest that is looked at.

    Raises:
        FileRefused: it is as a whole no container that can be read, or its signature
            is not by one of `signers`.
    """
    root = signed_part(
        read(content, max_bytes=max_bytes), signers, now=now, required=require_signature
    )
    try:
        return _keys(node_of(root), unlocking, now)
    except RowError as refused:
        raise FileRefused(f"the container is refused: {refused.reason}") from None


def _keys(container: Node, unlocking: Unlocking, now: float) -> list[Entry | Fault]:
    if container.name != f"{PSKC}KeyContainer":
        raise RowError("it is no KeyContainer of RFC 6030")
    if container.attributes.get("Version") != _VERSION:
        raise RowError("its Version is not 1.0")
    parts = ("EncryptionKey", "MACMethod", "KeyPackage", "Extensions")
    container.holds_only(*(f"{PSKC}{part}" for part in parts))
    _require_one_cipher(container)
    protection = protection_of(container, unlocking)
    found: list[tuple[Node, Node | None]] = []
    packages = container.all(f"{PSKC}KeyPackage")
    if not packages:
        raise RowError("it holds no KeyPackage")
    for package in packages:
        inside = ("DeviceInfo", "CryptoModuleInfo", "Key", "Extensions")
        package.holds_only(*(f"{PSKC}{part}" for part in inside))
        device = package.maybe(f"{PSKC}DeviceInfo")
        key = package.maybe(f"{PSKC}Key")  # section 3: at most one
        if key is not None:
            found.append((key, device))
    ids = Counter(key.attributes.get("Id", "") for key, _ in found)
    return [
        _row(
            line, key, device, protection, now, count=ids[key.attributes.get("Id", "")]
        )
        for line, (key, device) in enumerate(found, start=1)
    ]


def _require_one_cipher(container: Node) -> None:
    """Check that all values are under one algorithm (RFC 6030 section 6).

    One key under two is a way to forge: what is known of a stream of AES-GCM makes
    blocks for AES-CBC.
    """
    methods = (m for value in _sealed(container) for m in value.all(_METHOD))
    if len({algorithm_of(method) for method in methods}) > 1:
        raise RowError("its values are encrypted by more than one algorithm")


def _sealed(node: Node) -> Iterator[Node]:
    """Yield every EncryptedValue and MACKey below a node."""
    for child in node.children:
        if child.name in _SEALED:
            yield child
        elif child.name != f"{PSKC}Extensions":
            yield from _sealed(child)


def _row(
    line: int,
    key: Node,
    device: Node | None,
    protection: Protection,
    now: float,
    *,
    count: int,
) -> Entry | Fault:
    if not key.attributes.get("Id"):
        return Fault(line, "the key has no Id")
    if count > 1:
        return Fault(line, "another key has the same Id")
    try:
        return entry_of(key, device, protection, line=line, now=now)
    except RowError as refused:
        return Fault(line, refused.reason)
