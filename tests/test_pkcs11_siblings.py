"""The life of import keys in a token, and on their way from files into one."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pkcs11_token
import pytest
from conftest import TurnedClock
from keys_fixture import DAY_S, opened_at, sealed_seed
from pkcs11_token import PIN, URI, Tokens
from server_fixture import code_at, environment, otpseal, sealed_to, serving

from otpseal import padding, pkcs11_uri
from otpseal.adapters.file_keys import RsaKeys, generate_private_key, write_key_pair
from otpseal.adapters.key_siblings import next_path
from otpseal.config import Settings
from otpseal.errors import (
    ConfigurationError,
    KeyRefused,
    KeyUnavailable,
    StoreMismatch,
    UnsealFailed,
)
from otpseal.key_places import key_places, load_named
from otpseal.key_ring import MISSING_S, REFRESH_S
from otpseal.key_watch import STORAGE_KEY_MARK
from otpseal.ports import Keys
from otpseal.ports_key_files import Step
from otpseal.secret import Secret
from otpseal.service import Imported
from otpseal.store_inspection import inspect_store
from otpseal.unlocking import SERVICE_KEY_NAME
from otpseal.wiring import OpenedService
from otpseal.wiring_admin import make_lifecycle, make_storage_rotation

_PROGRAM = Path(__file__).with_name("rotation_killed.py")
NEXT = "pkcs11:token=otpseal%20tests;object=other%20key"
NEXT_IN_FULL = f"{NEXT};id=%06"


@pytest.fixture(scope="module", autouse=True)
def _own_process() -> None:
    """Ask for a new process, if this one has used a token before."""
    pkcs11_token.expect_unused(__name__)


@pytest.fixture
def given(tokens: Tokens, tmp_path: Path) -> dict[str, Any]:
    """Settings of a service whose key is in a token."""
    return {
        "data_dir": tmp_path / "data",
        "key": URI,
        "pkcs11_module": tokens.module,
        "pkcs11_pin_file": tokens.pin_file,
    }


@pytest.fixture
def settings(given: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The same, read."""
    monkeypatch.delenv("OTPSEAL_KEY_FILE", raising=False)
    return Settings(**given)


@pytest.fixture
def both(service_keys: RsaKeys, other_keys: RsaKeys) -> tuple[RsaKeys, RsaKeys]:
    """The key that is the active one at first, and the next."""
    return service_keys, other_keys


@pytest.fixture(scope="module")
def file_keys() -> RsaKeys:
    """A key that is in no token."""
    return RsaKeys(generate_private_key(3072))


@pytest.fixture
def file_settings(
    given: dict[str, Any],
    tmp_path: Path,
    file_keys: RsaKeys,
    monkeypatch: pytest.MonkeyPatch,
) -> Settings:
    """Settings of a service whose key is in a file, and whose next is in a token."""
    monkeypatch.delenv("OTPSEAL_KEY_FILE", raising=False)
    path = tmp_path / "keys" / "student_private.pem"
    write_key_pair(file_keys._private_key, path)
    return Settings(**{**given, "key": f"file:{path}", "other_key": NEXT})


def _prepare(
    opened: OpenedService, settings: Settings, clock: TurnedClock, uri: str = NEXT
) -> None:
    make_lifecycle(opened, settings, clock=clock).prepare(load_named(settings, uri))


def _takes(opened: OpenedService, keys: RsaKeys, number: int) -> bool:
    """Tell whether the service opens a seed that was sealed to a key."""
    try:
        said = opened.service.import_sealed(
            sealed_seed(keys, number), account=f"account-{number}"
        )
    except UnsealFailed:
        return False
    return said is Imported.NEW


def _kinds(opened: OpenedService) -> list[str]:
    with opened.store.transaction() as tx:
        return [event.kind for event in tx.newest_events(100)]


class TestInOneToken:
    """From one key of a token to another."""

    def test_a_rotation(
        self,
        settings: Settings,
        clock: TurnedClock,
        service_keys: RsaKeys,
        other_keys: RsaKeys,
    ) -> None:
        """A service that runs follows; both open, then the new one alone."""
        with opened_at(settings, clock) as running:
            assert not _takes(running, other_keys, 1)
            with opened_at(settings, clock) as opened:
                _prepare(opened, settings, clock)
                done = make_lifecycle(opened, settings, clock=clock).rotate(
                    overlap_s=DAY_S
                )
            clock.turn(max(REFRESH_S, MISSING_S))

            assert (other_keys.kid, service_keys.kid) == (done.kid, done.before)
            assert NEXT_IN_FULL == done.setting
            assert _takes(running, service_keys, 2)
            assert _takes(running, other_keys, 3)
            assert other_keys.kid == running.keys.kid
            clock.turn(DAY_S)
            assert not _takes(running, service_keys, 4)
            assert _takes(running, other_keys, 5)
            kinds = _kinds(running)
        assert ["import-key.prepared", "import-key.rotated"] == [
            kind for kind in kinds if kind.startswith("import-key")
        ]

    @pytest.mark.parametrize("overlap_s", [0, DAY_S])
    def test_the_settings_follow_at_leisure(
        self,
        settings: Settings,
        clock: TurnedClock,
        both: tuple[RsaKeys, RsaKeys],
        overlap_s: int,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """By the old ones a start works, in the overlap and after, and says so."""
        service_keys, other_keys = both
        with opened_at(settings, clock) as opened:
            _prepare(opened, settings, clock)
            make_lifecycle(opened, settings, clock=clock).rotate(overlap_s=overlap_s)

        with opened_at(settings, clock) as opened:
            assert other_keys.kid == opened.keys.kid
            assert _takes(opened, other_keys, 1)
            assert bool(overlap_s) == _takes(opened, service_keys, 2)
        with inspect_store(settings, clock=clock) as looked_at:
            told = looked_at.outdated
        assert told is not None
        assert f"Set OTPSEAL_KEY='{NEXT_IN_FULL}'" in told
        assert told in caplog.messages

        caplog.clear()
        changed = settings.model_copy(update={"key": NEXT_IN_FULL})
        with opened_at(changed, clock) as opened:
            assert opened.outdated is None
            assert bool(overlap_s) == _takes(opened, service_keys, 3)
        assert not [text for text in caplog.messages if "OTPSEAL_KEY" in text]

    def test_a_setting_that_was_changed_too_early(
        self, settings: Settings, clock: TurnedClock
    ) -> None:
        """A key that is not active yet does not open the store of the active one."""
        with opened_at(settings, clock) as opened:
            _prepare(opened, settings, clock)

        early = settings.model_copy(update={"key": NEXT})
        with (
            pytest.raises(StoreMismatch, match="never took the place of"),
            opened_at(early, clock),
        ):
            pass

    @pytest.mark.parametrize("step", [Step.MADE, Step.WRITTEN, Step.COMMITTED])
    def test_killed_at_each_step(
        self,
        settings: Settings,
        given: dict[str, Any],
        clock: TurnedClock,
        both: tuple[RsaKeys, RsaKeys],
        step: Step,
    ) -> None:
        """SIGKILL anywhere: the store opens, and a repetition leads to one rotation."""
        service_keys, other_keys = both
        with opened_at(settings, clock) as opened:
            _prepare(opened, settings, clock)

        killed = subprocess.run(
            [sys.executable, _PROGRAM, given["data_dir"], "", step, str(clock())],
            env=environment(**given),
            check=False,
            capture_output=True,
            timeout=60,
        )

        assert -signal.SIGKILL == killed.returncode, killed.stderr
        committed = step is Step.COMMITTED
        with opened_at(settings, clock) as opened:
            assert (other_keys if committed else service_keys).kid == opened.keys.kid
            for _ in range(2):
                done = make_lifecycle(opened, settings, clock=clock).rotate()
                assert (other_keys.kid, NEXT_IN_FULL) == (done.kid, done.setting)
            clock.turn(REFRESH_S)
            assert _takes(opened, service_keys, 1)
            assert _takes(opened, other_keys, 2)
            assert 1 == _kinds(opened).count("import-key.rotated")

    def test_nothing_is_made_there(
        self, settings: Settings, clock: TurnedClock, service_keys: RsaKeys
    ) -> None:
        """Without a key that was named both commands say what to do."""
        with opened_at(settings, clock) as opened:
            cycle = make_lifecycle(opened, settings, clock=clock)

            for act in (cycle.rotate, cycle.prepare):
                with pytest.raises(KeyUnavailable, match="keys prepare --key"):
                    act()

            assert service_keys.kid == opened.keys.kid
            assert ["store.created"] == _kinds(opened)

    def test_what_is_no_next_key(
        self, settings: Settings, clock: TurnedClock, given: dict[str, Any]
    ) -> None:
        """The active one, a weak one, none, two, one that is not for decrypting."""
        with opened_at(settings, clock) as opened:
            for uri, error, told in (
                (URI, KeyRefused, "does not come back"),
                ("weak", KeyRefused, "has 2048 bits"),
                ("none", KeyUnavailable, "no private key of that"),
                ("twins", KeyUnavailable, "2 private keys"),
                ("no%20decrypting", KeyRefused, "CKA_DECRYPT"),
                ("file:/key.pem", ConfigurationError, "--key is no PKCS#11 URI"),
                (f"{NEXT};pin-value=canary", ConfigurationError, "secrets do not"),
            ):
                named = (
                    uri if ":" in uri else f"pkcs11:token=otpseal%20tests;object={uri}"
                )
                with pytest.raises(error, match=told):
                    _prepare(opened, settings, clock, named)

            assert ["store.created"] == _kinds(opened)

    def test_the_one_that_was_prepared_last_is_next(
        self, settings: Settings, clock: TurnedClock, other_keys: RsaKeys
    ) -> None:
        """And one of before is it again when it is named again."""
        twin = "pkcs11:token=otpseal%20tests;object=twins;id=%03"
        with opened_at(settings, clock) as opened:
            for uri in (NEXT, twin, NEXT):
                clock.turn(1)
                _prepare(opened, settings, clock, uri)

            done = make_lifecycle(opened, settings, clock=clock).rotate()

        assert other_keys.kid == done.kid

    def test_a_record_that_is_put_back_opens_nothing(
        self, settings: Settings, clock: TurnedClock, service_keys: RsaKeys
    ) -> None:
        """Who writes the database cannot bring the old key back, which is still there.

        Not at a start, by the new settings; nor in a service that runs, which is told
        that its storage key was replaced.
        """
        with opened_at(settings, clock) as opened:
            with opened.store.transaction() as tx:
                old = tx.storage_key_record()
            assert old is not None
            _prepare(opened, settings, clock)
            make_lifecycle(opened, settings, clock=clock).rotate(overlap_s=0)
        changed = settings.model_copy(update={"key": NEXT})

        with opened_at(changed, clock) as running:
            with running.store.transaction() as tx:
                tx.replace_storage_key_record(old)
                tx.set_mark(STORAGE_KEY_MARK, 7)
            with (
                pytest.raises(StoreMismatch, match="older state of the store back"),
                running.store.transaction(),
            ):
                pass

        with (
            pytest.raises(StoreMismatch, match="older state of the store back"),
            opened_at(changed, clock),
        ):
            pass

    def test_a_new_storage_key(
        self,
        settings: Settings,
        clock: TurnedClock,
        service_keys: RsaKeys,
        other_keys: RsaKeys,
    ) -> None:
        """Wrapped by the active key, whether the settings name it yet or not."""
        with opened_at(settings, clock) as running:
            assert _takes(running, service_keys, 1)
            _prepare(running, settings, clock)
            make_lifecycle(running, settings, clock=clock).rotate()
            clock.turn(REFRESH_S)

            with opened_at(settings, clock) as opened:
                done = make_storage_rotation(opened, clock=clock).replace()

            assert (1, 0) == (done.accounts, done.altered)
            assert _takes(running, service_keys, 2)
            assert _takes(running, other_keys, 3)
        changed = settings.model_copy(update={"key": NEXT})
        with opened_at(changed, clock) as opened:
            assert _takes(opened, service_keys, 4)


class TestIntoAToken:
    """From a file into a token, with OTPSEAL_OTHER_KEY."""

    def test_a_rotation(
        self,
        file_settings: Settings,
        clock: TurnedClock,
        file_keys: RsaKeys,
        other_keys: RsaKeys,
    ) -> None:
        """A service that runs follows, the settings at leisure; no file is touched."""
        directory = file_settings.key_path(SERVICE_KEY_NAME).parent
        before = {path.name: path.read_bytes() for path in directory.iterdir()}
        with opened_at(file_settings, clock) as running:
            assert _takes(running, file_keys, 1)
            with opened_at(file_settings, clock) as opened:
                _prepare(opened, file_settings, clock)
                cycle = make_lifecycle(opened, file_settings, clock=clock)
                done = cycle.rotate(overlap_s=DAY_S)
                # Once more, as after an interruption: no key is made in a file.
                again = cycle.rotate()
                with pytest.raises(ConfigurationError, match="Set OTPSEAL_KEY='pkcs11"):
                    cycle.prepare()
            clock.turn(MISSING_S)
            assert _takes(running, file_keys, 2)
            assert _takes(running, other_keys, 3)

        assert (other_keys.kid, NEXT_IN_FULL) == (done.kid, done.setting)
        assert (other_keys.kid, None) == (again.kid, again.before)
        after = {path.name: path.read_bytes() for path in directory.iterdir()}
        assert before == after
        with opened_at(file_settings, clock) as opened:  # by the old settings
            assert _takes(opened, file_keys, 4)
            assert _takes(opened, other_keys, 5)
            assert NEXT_IN_FULL in str(opened.outdated)
        swapped = file_settings.model_copy(
            update={"key": NEXT_IN_FULL, "other_key": file_settings.key}
        )
        with opened_at(swapped, clock) as opened:
            assert opened.outdated is None
            assert _takes(opened, file_keys, 6)
            assert _takes(opened, other_keys, 7)
        alone = swapped.model_copy(update={"other_key": None})
        with opened_at(alone, clock) as opened:
            assert not _takes(opened, file_keys, 8)
            assert _takes(opened, other_keys, 9)

    def test_a_key_that_no_service_would_find(
        self, file_settings: Settings, clock: TurnedClock
    ) -> None:
        """Without OTPSEAL_OTHER_KEY nothing is published that nothing would open."""
        alone = file_settings.model_copy(update={"other_key": None})
        with (
            opened_at(alone, clock) as opened,
            pytest.raises(KeyUnavailable, match="OTPSEAL_OTHER_KEY"),
        ):
            _prepare(opened, alone, clock)

    def test_a_next_key_of_before_does_not_follow(
        self, file_settings: Settings, clock: TurnedClock, other_keys: RsaKeys
    ) -> None:
        """One that lay ready in a file retires; a repetition does not make it active.

        Not by the old settings nor by the new ones, and by a clock that was set back.
        """
        ready = RsaKeys(generate_private_key(3072))
        path = file_settings.key_path(SERVICE_KEY_NAME)
        write_key_pair(ready._private_key, next_path(path))
        swapped = file_settings.model_copy(
            update={"key": NEXT_IN_FULL, "other_key": file_settings.key}
        )
        with opened_at(file_settings, clock) as opened:
            cycle = make_lifecycle(opened, file_settings, clock=clock)
            assert ready.kid == cycle.prepare().kid
            clock.turn(-60)
            _prepare(opened, file_settings, clock)

            done = cycle.rotate(overlap_s=DAY_S)
            again = cycle.rotate()

            assert [other_keys.kid] * 2 == [done.kid, again.kid]
            assert again.before is None
            assert _takes(opened, ready, 1)
        with opened_at(swapped, clock) as opened:
            with pytest.raises(KeyUnavailable, match="keys prepare --key"):
                make_lifecycle(opened, swapped, clock=clock).rotate()
            ring = opened.key_ring
            assert ring is not None
            assert [other_keys.kid] == [key.kid for key in ring.published()]
            clock.turn(DAY_S)
            assert not _takes(opened, ready, 2)

    def test_not_back_into_a_file(
        self,
        file_settings: Settings,
        clock: TurnedClock,
        tmp_path: Path,
        service_keys: RsaKeys,
    ) -> None:
        """A key in a token is followed by one in a token, whatever lies in files."""
        in_token = file_settings.model_copy(
            update={"key": URI, "other_key": f"file:{tmp_path}/keys/x_private.pem"}
        )
        key = generate_private_key(3072)
        for name in ("x_private.pem", "x_private.next.pem"):
            write_key_pair(key, tmp_path / "other" / name)
        with opened_at(in_token, clock) as opened:
            cycle = make_lifecycle(opened, in_token, clock=clock)

            for act in (cycle.prepare, cycle.rotate):
                with pytest.raises(KeyUnavailable, match="keys prepare --key"):
                    act()

            assert service_keys.kid == opened.keys.kid

    def test_one_place_does_not_hide_the_other(
        self,
        tokens: Tokens,
        file_settings: Settings,
        file_keys: RsaKeys,
        other_keys: RsaKeys,
    ) -> None:
        """A token that is away loses no key in a file, and the other way round."""
        with tokens.unreachable():
            file_first = key_places(file_settings, SERVICE_KEY_NAME)
            found = file_first.load(file_keys.kid)
            assert found is not None
            swapped = file_settings.model_copy(
                update={"key": NEXT, "other_key": file_settings.key}
            )
            found = key_places(swapped, SERVICE_KEY_NAME).load(file_keys.kid)
            assert found is not None
            with pytest.raises(KeyUnavailable):
                key_places(swapped, SERVICE_KEY_NAME).load("another")
        # Back, it is found in the same process.
        assert key_places(swapped, SERVICE_KEY_NAME).load(other_keys.kid) is not None

    @pytest.mark.parametrize("text", ["key.pem", "pkcs11:object=o", "https://a/key"])
    def test_a_malformed_setting(
        self, file_settings: Settings, clock: TurnedClock, text: str
    ) -> None:
        """It is named, before anything is opened."""
        wrong = file_settings.model_copy(update={"other_key": text})

        with (
            pytest.raises(ConfigurationError, match="OTPSEAL_OTHER_KEY is"),
            opened_at(wrong, clock),
        ):
            pass


class _OldHandle:
    """In the place of a key or session: whoever uses it fails."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)


def _signs(keys: Keys) -> None:
    signature = keys.pss_sign(b"message", salt_length=32)
    padding.pss_verify(keys.public_key, signature, b"message", salt_length=32)


class TestManyKeysOfOneToken:
    """What one process does with several keys at once."""

    @pytest.mark.parametrize("ended_by", ["initialising anew", "logging out"])
    def test_handles_do_not_outlive_their_session(
        self, settings: Settings, ended_by: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Numbers of sessions and keys are given out again: old ones are not used.

        Neither to sign by, which may be another key's now, nor to close, which would
        end another key's session.
        """
        from otpseal.adapters.pkcs11_keys import Pkcs11Keys
        from otpseal.adapters.pkcs11_modules import initialise_anew

        module = settings.pkcs11_module
        assert module is not None
        initialise_anew(str(module))  # nobody of before is logged in
        one, two = (
            Pkcs11Keys(module, pkcs11_uri.parse(uri), Secret(PIN.encode()))
            for uri in (URI, NEXT)
        )

        if ended_by == "logging out":
            one.close()
        else:
            initialise_anew(str(module))
            one._session = two._session = _OldHandle()  # type: ignore[assignment]
            one._key = _OldHandle()
        two._key = _OldHandle()
        _signs(one)
        _signs(two)
        _signs(one)

        assert [] == caplog.messages

    def test_a_search_finds_its_way_back(
        self, tokens: Tokens, settings: Settings, other_keys: RsaKeys
    ) -> None:
        """The token's server is killed between two searches."""
        places = key_places(settings, SERVICE_KEY_NAME)
        assert NEXT_IN_FULL == places.place_of(other_keys.kid)

        tokens.cut_off()

        assert NEXT_IN_FULL == places.place_of(other_keys.kid)
        assert places.place_of("A" * 43) is None

    def test_a_refused_pin_is_not_tried_again(self, tokens: Tokens) -> None:
        """Not for another key of that token, either: tokens lock themselves."""
        ran = subprocess.run(
            [sys.executable, "-c", _WRONG_PIN, str(tokens.module), URI, NEXT],
            env={**os.environ, pkcs11_token.ADDRESS: tokens.address},
            capture_output=True,
            check=False,
            timeout=60,
        )

        assert 0 == ran.returncode, ran.stderr.decode()
        first, *others = ran.stdout.decode().splitlines()
        assert "refuses the PIN" in first
        assert 3 == len(others)
        assert all("refused before and is not tried again" in text for text in others)


_WRONG_PIN = """
import sys
from pathlib import Path
from otpseal import pkcs11_uri
from otpseal.adapters.pkcs11_keys import Pkcs11Keys
from otpseal.adapters.pkcs11_siblings import TokenKeys
from otpseal.errors import KeyUnavailable
from otpseal.secret import Secret

module, pin = Path(sys.argv[1]), Secret(b"wrong-pin")
one, two = (pkcs11_uri.parse(text) for text in sys.argv[2:])
token = TokenKeys(module, one, pin)
for ask in (
    lambda: Pkcs11Keys(module, one, pin),
    lambda: Pkcs11Keys(module, two, Secret(b"wrong-pin")),
    lambda: token.load("kid"),
    lambda: token.place_of("kid"),
):
    try:
        ask()
    except KeyUnavailable as error:
        print(error)
"""


def test_commands_beside_a_running_service(
    tokens: Tokens,
    tmp_path: Path,
    given: dict[str, Any],
    service_keys: RsaKeys,
    other_keys: RsaKeys,
) -> None:
    """Prepare, rotate, list, doctor, a new storage key, and a restart in between."""
    given = {**given, "key_file": ""}

    def keys(*arguments: str) -> Any:  # noqa: ANN401 - JSON
        ran = otpseal("keys", *arguments, "--json", **given)
        assert 0 == ran.returncode, ran.stderr
        assert PIN not in ran.stdout + ran.stderr
        return json.loads(ran.stdout)

    with serving(tmp_path, other_keys, **given) as server:
        assert 200 == server.bring(sealed_to(service_keys)).status
        prepared = keys("prepare", "--key", NEXT)
        rotated = keys("rotate", "--overlap", "1h")
        time.sleep(REFRESH_S + 0.1)
        assert 200 == server.bring(sealed_to(other_keys)).status
        assert 200 == server.bring(sealed_to(service_keys)).status
        replaced = keys("rotate", "--storage")
        assert {"valid": True} == server.verify(code_at(time.time())).json
        listed = keys("list")
        assert 0 == server.stop()

    assert {"kid": other_keys.kid, "made": False, "published": True} == prepared
    assert (other_keys.kid, NEXT_IN_FULL) == (rotated["kid"], rotated["setting"])
    assert (1, 0) == (replaced["accounts"], replaced["altered"])
    assert [
        (other_keys.kid, "active", NEXT_IN_FULL),
        (service_keys.kid, "retiring", f"{URI};id=%01"),
    ] == [
        (key["kid"], key["state"], key["place"])
        for key in listed
        if key["use"] == "import"
    ]
    # Started again before the settings follow.
    with serving(tmp_path, other_keys, **given) as server:
        assert f"Set OTPSEAL_KEY='{NEXT_IN_FULL}'" in server.log()
        assert 200 == server.bring(sealed_to(other_keys)).status
        assert 200 == server.bring(sealed_to(service_keys)).status
        doctor = otpseal("doctor", **given)
        assert PIN not in server.log()
    assert 0 == doctor.returncode, doctor.stdout
    assert f"Set OTPSEAL_KEY='{NEXT_IN_FULL}'" in doctor.stdout
    shown = otpseal("keys", "list", **{**given, "key": NEXT_IN_FULL})
    assert "" == shown.stderr
    assert f"import key {other_keys.kid}: active\n  in {NEXT_IN_FULL}\n" in shown.stdout
