"""A signing certificate is renewed: by the CA, on record, whatever interrupts it."""

import json
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import TurnedClock
from cryptography.hazmat.primitives.asymmetric import ec
from renewal_fixture import DAY, initialised, opened_at

from otpseal import certificates, keypolicy, public_jwk
from otpseal.adapters import signing_files, signing_swap
from otpseal.adapters.file_keys import RsaKeys
from otpseal.adapters.signing_files import SigningFiles
from otpseal.adapters.signing_swap import Step
from otpseal.certificate_profile import SEED_SIGNING, authority_uri, verify
from otpseal.config import Settings
from otpseal.errors import KeyRefused, KeyUnavailable, StoreUnavailable
from otpseal.ledger import rfc3339
from otpseal.unlocking import Opened
from otpseal.wiring_authority import load_signing, signing_directory
from otpseal.wiring_renewal import Renewed, renew

_PROGRAM = Path(__file__).with_name("renewal_killed.py")
KIND = "authority.certificate-renewed"


@pytest.fixture
def authority(tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock) -> Settings:
    """An authority, a hundred days after it was initialised."""
    settings = initialised(tmp_path / "authority", other_keys, clock)
    clock.turn(100 * DAY)
    return settings


def signs(settings: Settings) -> SigningFiles:
    """Return what it signs with; whole, and belonging together."""
    found = load_signing(settings)
    assert found is not None
    return found


def kid(files: SigningFiles) -> str:
    """Return its key's thumbprint."""
    return public_jwk.thumbprint(files.key.public_key())


def pinned_kids(settings: Settings) -> list[str]:
    """Return what stands in the file that services pin."""
    path = signing_directory(settings) / "authority_jwks.json"
    return [key["kid"] for key in json.loads(path.read_bytes())["keys"]]


def contents(settings: Settings) -> dict[str, bytes]:
    """Return the signing files."""
    found = signing_directory(settings).iterdir()
    return {path.name: path.read_bytes() for path in found}


def events(opened: Opened) -> list[dict[str, object]]:
    """Return the details of all renewals on record."""
    return [
        json.loads(record.row.detail)
        for record in opened.audit.newest(100, kind=KIND)
        if record.genuine
    ]


def renewed(
    settings: Settings, clock: TurnedClock, *, new_key: bool = False
) -> Renewed:
    """Renew."""
    with opened_at(settings, clock) as opened:
        return renew(opened, settings, new_key=new_key, clock=clock)


@pytest.mark.parametrize("ps256", [False, True])
@pytest.mark.parametrize("new_key", [False, True])
def test_a_certificate_is_renewed(
    tmp_path: Path,
    other_keys: RsaKeys,
    clock: TurnedClock,
    *,
    ps256: bool,
    new_key: bool,
) -> None:
    """For a year from now, for the same key or one of its kind; services believe it."""
    settings = initialised(tmp_path / "authority", other_keys, clock, ps256=ps256)
    before = signs(settings)
    clock.turn(364 * DAY)

    with opened_at(settings, clock) as opened:
        done = renew(opened, settings, new_key=new_key, clock=clock)
        recorded = events(opened)

    after = signs(settings)
    assert clock() + 365 * DAY == done.valid.until
    assert (kid(before) != kid(after)) is new_key
    assert type(before.key) is type(after.key)
    assert [kid(after)] == [done.kid] == pinned_kids(settings)
    assert [
        {
            "kid": kid(after),
            "new_key": int(new_key),
            "serial": f"{after.certificate.serial_number:x}",
            "until": rfc3339(done.valid.until),
        }
    ] == recorded
    clock.turn(364 * DAY)
    vouched_for = verify(
        before.ca_certificate,
        [certificates.der(after.certificate)],
        purpose=SEED_SIGNING,
        name=authority_uri("authority"),
        now=clock(),
    )
    assert vouched_for is not None
    assert kid(after) == public_jwk.thumbprint(vouched_for)


@pytest.mark.parametrize(
    ("step", "new_key"),
    [
        *((step, True) for step in Step),
        *((step, False) for step in (Step.READY, Step.RECORDED, Step.RENAMED)),
    ],
)
def test_a_renewal_killed_at_each_step(
    authority: Settings, clock: TurnedClock, step: Step, *, new_key: bool
) -> None:
    """SIGKILL anywhere: it signs, by what is on record; a repetition finishes it."""
    before = signs(authority)
    key = "new" if new_key else "same"
    arguments = [authority.data_dir, step.value, str(clock()), key]

    killed = subprocess.run(
        [sys.executable, _PROGRAM, *arguments],
        check=False,
        capture_output=True,
        timeout=120,
    )

    assert -signal.SIGKILL == killed.returncode, killed.stderr
    found = signs(authority)
    is_replaced = step in {Step.KEY_RENAMED, Step.RENAMED}
    assert is_replaced == (found.certificate != before.certificate)
    assert (is_replaced and new_key) == (kid(found) != kid(before))
    with opened_at(authority, clock) as opened:
        serials = {event["serial"] for event in events(opened)}
        assert (step not in {Step.KEY_READY, Step.READY}) == bool(serials)
        assert not is_replaced or f"{found.certificate.serial_number:x}" in serials
        renew(opened, authority, clock=clock)
        assert kid(found) == kid(signs(authority)) == events(opened)[-1]["kid"]
    assert [kid(found)] == pinned_kids(authority)
    assert not [name for name in contents(authority) if ".next." in name]


def test_a_new_key_is_closed_to_others(authority: Settings, clock: TurnedClock) -> None:
    """As the one before; and the certificate is open, as it was."""
    renewed(authority, clock, new_key=True)

    directory = signing_directory(authority)
    modes = [
        path.stat().st_mode & 0o777
        for path in (
            directory / signing_files.SIGNING_KEY_NAME,
            directory / signing_files.SIGNING_CERTIFICATE_NAME,
        )
    ]
    assert [0o600, 0o644] == modes


def test_no_certificate_outlives_the_ca(
    authority: Settings, clock: TurnedClock
) -> None:
    """It ends with the CA; when the CA is over there is none, and it is said why."""
    clock.turn(3500 * DAY)

    done = renewed(authority, clock)

    assert done.valid.until == done.ca.until
    clock.now = done.ca.until + 1
    before = contents(authority)
    with pytest.raises(KeyRefused, match="authority init"):
        renewed(authority, clock)
    assert before == contents(authority)


def test_the_cas_key_may_be_elsewhere(
    authority: Settings, clock: TurnedClock, tmp_path: Path
) -> None:
    """Then it is asked for, taken from there, and left there alone."""
    there = tmp_path / "stick.pem"
    (signing_directory(authority) / signing_files.CA_KEY_NAME).rename(there)
    with opened_at(authority, clock) as opened:
        with pytest.raises(KeyUnavailable, match="--ca-key FILE"):
            renew(opened, authority, clock=clock)
        with pytest.raises(KeyUnavailable, match="no CA key"):
            renew(opened, authority, ca_key_file=tmp_path / "none", clock=clock)
        assert [] == events(opened)

        done = renew(opened, authority, ca_key_file=there, clock=clock)

    assert clock() + 365 * DAY == done.valid.until
    assert signs(authority).ca_key is None
    assert there.exists()


def test_another_cas_key_is_refused(
    authority: Settings, clock: TurnedClock, tmp_path: Path
) -> None:
    """Nobody would believe what it issues."""
    other = tmp_path / "other.pem"
    pem = keypolicy.private_pem(ec.generate_private_key(ec.SECP256R1()))
    other.write_bytes(pem)
    other.chmod(0o600)
    before = contents(authority)

    with opened_at(authority, clock) as opened:
        with pytest.raises(KeyRefused, match="another CA"):
            renew(opened, authority, ca_key_file=other, clock=clock)
        assert [] == events(opened)

    assert before == contents(authority)


@pytest.mark.parametrize("new_key", [False, True])
def test_without_its_event_nothing_is_replaced(
    authority: Settings, clock: TurnedClock, *, new_key: bool
) -> None:
    """A store that takes no event: all files are as before, and none lies ready."""
    before = contents(authority)
    with opened_at(authority, clock) as opened:
        with closing(sqlite3.connect(authority.sqlite_path)) as database:
            database.execute("DROP TABLE audit_events")

        with pytest.raises(StoreUnavailable):
            renew(opened, authority, new_key=new_key, clock=clock)

    assert before == contents(authority)


def test_without_room_nothing_is_recorded(
    authority: Settings, clock: TurnedClock
) -> None:
    """Files that cannot be written are found out before the event is."""
    (signing_directory(authority) / signing_swap.NEXT_KEY_NAME).mkdir()

    with opened_at(authority, clock) as opened:
        with pytest.raises(KeyUnavailable, match="cannot be changed"):
            renew(opened, authority, new_key=True, clock=clock)
        assert [] == events(opened)


def test_an_authority_without_keys_is_told_of_init(
    tmp_path: Path, other_keys: RsaKeys, clock: TurnedClock
) -> None:
    """There is nothing to renew."""
    settings = initialised(tmp_path / "authority", other_keys, clock)
    (signing_directory(settings) / signing_files.SIGNING_KEY_NAME).unlink()

    with pytest.raises(KeyUnavailable, match="authority init"):
        renewed(settings, clock)
