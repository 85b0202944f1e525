"""The backup file of 2FAS (`.2fas`), schema versions 1 to 4, without a password.

Read: `services[]` with `name`, `secret` and `otp` {`issuer`, `account`, `label`,
`tokenType`, `algorithm`, `digits`, `period`, `counter`}. The issuer is `otp.issuer`,
else the service's `name`, else the prefix of `otp.label`; the label is `otp.account`,
else what `otp.label` says after its prefix. Skipped: icons, groups, order, `source`.
"""

from typing import Final

from otpseal.errors import FileRefused
from otpseal.formats.content import Json, json_object_of, number_in, text_in
from otpseal.formats.row import Entry, Fault, RowError, make_entry, split_label

#: Schema versions that are understood.
SCHEMA_VERSIONS: Final = range(1, 5)


def parse(content: bytes) -> list[Entry | Fault]:
    """Return an entry or a fault for every service, numbered from 1.

    Raises:
        FileRefused: no 2FAS backup, one with a password, or one of a later version;
            see also `otpseal.formats.content.json_object_of`.
    """
    backup = json_object_of(content)
    if backup.get("servicesEncrypted"):
        raise FileRefused(
            "the 2FAS backup is encrypted: export it anew in 2FAS under Settings, 2FAS"
            " Backup, Export to file, without a password, and delete that file when"
            " the accounts are in"
        )
    services, version = backup.get("services"), backup.get("schemaVersion")
    if not isinstance(services, list):
        raise FileRefused("the file is not a backup of 2FAS")
    # `true` and 1.0 equal 1.
    if type(version) is not int or version not in SCHEMA_VERSIONS:
        raise FileRefused("the 2FAS backup has a version that is not understood")
    return [_row(number, service) for number, service in enumerate(services, start=1)]


def _row(number: int, service: object) -> Entry | Fault:
    try:
        return _entry(number, service)
    except RowError as refused:
        return Fault(number, refused.reason)


def _entry(number: int, service: object) -> Entry:
    otp = service.get("otp") if isinstance(service, dict) else None
    if not isinstance(service, dict) or not isinstance(otp, dict):
        raise RowError("the service is no object with an otp object")
    issuer, label = _names(service, otp)
    return make_entry(
        number,
        secret=text_in(service, "secret") or "",
        # Schema 1 knew TOTP alone and wrote no type.
        kind=text_in(otp, "tokenType") or "totp",
        issuer=issuer,
        label=label,
        algorithm=text_in(otp, "algorithm"),
        digits=number_in(otp, "digits"),
        period=number_in(otp, "period"),
        counter=number_in(otp, "counter"),
    )


def _names(service: Json, otp: Json) -> tuple[str, str]:
    prefix, name = split_label(text_in(otp, "label") or "")
    issuer = text_in(otp, "issuer") or text_in(service, "name") or prefix
    return issuer, text_in(otp, "account") or name
