"""Fixtures that many tests share: keys (costly, so made once) and a clock to turn."""

from pathlib import Path

import hypothesis
import pytest

from otpseal.adapters.file_keys import RsaKeys, generate_private_key, write_key_pair
from otpseal.config import Settings

#: The fixtures `postgres`, `durable_postgres`, `database`, `store`, `tokens`.
pytest_plugins = ["postgres_fixture", "stores", "pkcs11_token"]

# No deadline: a busy machine is no falsification.
hypothesis.settings.register_profile("otpseal", deadline=None)
hypothesis.settings.load_profile("otpseal")


class TurnedClock:
    """A clock that stands still until it is turned; seconds since the epoch."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        """Return the time it shows."""
        return self.now

    def turn(self, seconds: float) -> None:
        """Move it by `seconds`, either way."""
        self.now += seconds


@pytest.fixture
def clock() -> TurnedClock:
    """A clock at the start of a step, on a full minute."""
    return TurnedClock(1_800_000_000.0)


@pytest.fixture(scope="session")
def service_keys() -> RsaKeys:
    """The service's import key, RSA-4096."""
    return RsaKeys(generate_private_key(4096))


@pytest.fixture(scope="session")
def other_keys() -> RsaKeys:
    """Somebody else's key, RSA-4096."""
    return RsaKeys(generate_private_key(4096))


@pytest.fixture
def settings(tmp_path: Path, service_keys: RsaKeys) -> Settings:
    """Settings of an empty data directory that has the import key already."""
    key_file = tmp_path / "keys" / "student_private.pem"
    write_key_pair(service_keys._private_key, key_file)
    return Settings(
        data_dir=tmp_path / "data",
        key_file=key_file,
        code_log=tmp_path / "last_code.txt",
    )


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the developer's own OTPSEAL_ variables."""
    import os

    ours = {"OTPSEAL_CONTAINER_TESTS", "OTPSEAL_TORTURE"}
    for name in list(os.environ):
        if name.startswith("OTPSEAL_") and name not in ours:
            monkeypatch.delenv(name)
