"""The plain JSON export of Aegis (beemdevelopment/Aegis, docs/vault.md).

Read: `db.entries[]` with `type`, `name`, `issuer` and `info` {`secret`, `algo`,
`digits`, `period` or `counter`}. Skipped: icons, notes, groups, usage. Encrypted
vaults are refused: this program asks for no password of another one.
"""

from typing import Final

from otpseal.errors import FileRefused
from otpseal.formats.content import Json, json_object_of, number_in, text_in
from otpseal.formats.row import Entry, Fault, RowError, make_entry

#: Versions of the vault and of its content that are understood.
VAULT_VERSIONS: Final = (1,)
CONTENT_VERSIONS: Final = (1, 2, 3)


def parse(content: bytes) -> list[Entry | Fault]:
    """Return an entry or a fault for every entry of the vault, numbered from 1.

    Raises:
        FileRefused: no Aegis vault, an encrypted one, or one of a later version; see
            also `otpseal.formats.content.json_object_of`.
    """
    vault = json_object_of(content)
    header, database = vault.get("header"), vault.get("db")
    if not isinstance(header, dict) or not isinstance(database, (dict, str)):
        raise FileRefused("the file is not a vault of Aegis")
    if isinstance(database, str) or header.get("slots") is not None:
        raise FileRefused(
            "the Aegis vault is encrypted: export it anew in Aegis under Settings,"
            " Import & Export, Export, with `Encrypt the vault` switched off, and"
            " delete that file when the accounts are in"
        )
    entries = database.get("entries")
    if not isinstance(entries, list):
        raise FileRefused("the file is not a vault of Aegis")
    _require_version(vault, VAULT_VERSIONS)
    _require_version(database, CONTENT_VERSIONS)
    return [_row(number, entry) for number, entry in enumerate(entries, start=1)]


def _require_version(place: Json, known: tuple[int, ...]) -> None:
    version = place.get("version")
    # `true` and 1.0 equal 1.
    if type(version) is not int or version not in known:
        raise FileRefused("the Aegis vault has a version that is not understood")


def _row(number: int, entry: object) -> Entry | Fault:
    try:
        return _entry(number, entry)
    except RowError as refused:
        return Fault(number, refused.reason)


def _entry(number: int, entry: object) -> Entry:
    info = entry.get("info") if isinstance(entry, dict) else None
    if not isinstance(entry, dict) or not isinstance(info, dict):
        raise RowError("the entry is no object with an info object")
    return make_entry(
        number,
        secret=text_in(info, "secret") or "",
        kind=text_in(entry, "type") or "",
        issuer=text_in(entry, "issuer") or "",
        label=text_in(entry, "name") or "",
        algorithm=text_in(info, "algo"),
        digits=number_in(info, "digits"),
        period=number_in(info, "period"),
        counter=number_in(info, "counter"),
    )
