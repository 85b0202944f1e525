"""The seed.txt of an existing deployment: what is not one's own is left alone."""

import os
from pathlib import Path

import pytest

from otpseal import Settings, open_service
from otpseal.adapters.seed_file import open_seed_file

HEX = "a1" * 32


@pytest.fixture
def path(settings: Settings) -> Path:
    """Where a seed.txt would lie; there is none yet."""
    settings.data_dir.mkdir()
    return settings.data_dir / "seed.txt"


def kinds(settings: Settings) -> list[str]:
    """Open the service and list what its audit log holds."""
    with open_service(settings) as opened:
        return [record.row.kind for record in opened.audit.newest(20)]


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_a_link_is_not_followed(settings: Settings, path: Path, link: object) -> None:
    """What it points at is neither imported nor destroyed."""
    precious = settings.data_dir.parent / "precious"
    precious.write_text(HEX)
    link(precious, path)  # type: ignore[operator]

    assert ["store.created"] == kinds(settings)
    assert precious.read_text() == HEX


def test_a_fifo_hinders_nothing(settings: Settings, path: Path) -> None:
    """Nobody writes to it, and nobody waits for that."""
    os.mkfifo(path)

    assert ["store.created"] == kinds(settings)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_left_alone(settings: Settings, path: Path) -> None:
    """It may be anybody's seed."""
    path.write_text(HEX)
    os.chown(path, 12345, 12345)

    assert ["store.created"] == kinds(settings)
    assert path.read_text() == HEX


def test_white_space_around_the_seed_is_fine(settings: Settings, path: Path) -> None:
    """Old deployments wrote it with CRLF, and with blanks."""
    path.write_bytes(f" {HEX}\r\n".encode())

    assert ["store.created", "seed.imported", "seed.file-removed"] == kinds(settings)
    assert not path.exists()


def test_a_destruction_that_was_cut_off_is_finished(
    settings: Settings, path: Path
) -> None:
    """Overwritten but not removed before a crash: now it is removed and recorded."""
    path.write_bytes(b"\0" * 64)

    assert ["store.created", "seed.file-removed"] == kinds(settings)
    assert not path.exists()


def test_what_is_put_in_its_place_is_not_destroyed(path: Path) -> None:
    """Read and overwritten through one open file, whatever the name means by then."""
    path.write_text(HEX)
    file = open_seed_file(path)
    assert file is not None
    path.rename(path.with_name("moved"))
    path.write_text("new")

    assert file.read() == HEX.encode()
    file.destroy()
    file.close()

    assert path.with_name("moved").read_bytes() == b"\0" * 64
