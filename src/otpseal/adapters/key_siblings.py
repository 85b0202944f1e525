"""Import keys of every age, as files beside one another.

`student_private.pem` is the active one, `student_private.next.pem` lies ready, and
`student_private.<first 16 of its kid>.pem` was active before; public halves likewise.
There is always a file of the active name: what takes it replaces the one before, which
got another name first.
"""

import contextlib
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Final

from otpseal import keypolicy
from otpseal.adapters.file_keys import (
    RsaKeys,
    generate_private_key,
    key_exists,
    load_keys,
    load_public_key,
    public_path,
    restore_public_half,
    write_key_pair,
)
from otpseal.adapters.private_files import change_explained, held, sync_directory
from otpseal.errors import KeyRefused, KeyUnavailable
from otpseal.ports_key_files import Seam, Step

#: Entered while a key of that many bits is made.
Searching = Callable[[int], AbstractContextManager[None]]

_KID_CHARS: Final = 16
_NEXT: Final = "next"


def unannounced(_bits: int) -> AbstractContextManager[None]:
    """Make a key without a word."""
    return contextlib.nullcontext()


def sibling(path: Path, mark: str) -> Path:
    """Return the name beside a key's: `student_private.pem` -> `..._private.X.pem`."""
    return path.with_name(f"{path.stem}.{mark}{path.suffix}")


def next_path(path: Path) -> Path:
    """Return where the next private key lies beside the active one."""
    return sibling(path, _NEXT)


def retired_path(path: Path, kid: str) -> Path:
    """Return where a private key lies that was active before."""
    return sibling(path, kid[:_KID_CHARS])


class SiblingKeys:
    """`otpseal.key_lifecycle.KeyFiles` in one directory.

    Args:
        path: of the active private key.
        passphrase: of all of them.
        bits: of a new key.
        searching: entered, with the number of bits, while a key is made.
    """

    def __init__(
        self,
        path: Path,
        passphrase: bytes | None,
        *,
        bits: int = 4096,
        searching: Searching = unannounced,
    ) -> None:
        self._path = path
        self._passphrase = passphrase
        self._bits = bits
        self._searching = searching

    def held(self) -> AbstractContextManager[None]:
        """See `KeyFiles`."""
        return held(self._path.parent)

    def load(self, kid: str) -> RsaKeys | None:
        """See `KeyFiles`."""
        return self._find(kid, retired_path(self._path, kid))

    def load_current(self, kid: str) -> RsaKeys | None:
        """Return the key that the store's record names; None if it is not here.

        Only where an active key lies, or one that is about to be: a record by a key
        that was retired is a copy that somebody put back.
        """
        return self._find(kid)

    def load_next(self) -> RsaKeys | None:
        """See `KeyFiles`."""
        found = self._load(next_path(self._path))
        if found is not None:
            restore_public_half(found.public_key, next_path(self._path))
        return found

    def make_next(self) -> RsaKeys:
        """See `KeyFiles`."""
        with self._searching(self._bits):
            key = generate_private_key(self._bits)
        write_key_pair(key, next_path(self._path), self._passphrase)
        return RsaKeys(key)

    def place_of(self, kid: str) -> str | None:
        """Return the file that a key is in, judged by the public halves; or None."""
        for path in (self._path, next_path(self._path), retired_path(self._path, kid)):
            if _public_kid(path) == kid and key_exists(path):
                return str(path)
        return None

    def setting_for(self, kid: str) -> None:
        """See `KeyFiles`: the active name is always the active key's."""

    def promote(self, kid: str, reached: Seam) -> bool:
        """See `KeyFiles`."""
        moved = False
        active = self._load(self._path)
        if active is None or active.kid != kid:
            ready = self._load(next_path(self._path))
            if ready is None or ready.kid != kid:
                raise KeyUnavailable(
                    f"the store belongs to the private key {kid}, which is neither at"
                    f" {self._path} nor at {next_path(self._path)}: copy it there from"
                    " the machine that replaced it"
                )
            with change_explained(self._path.parent):
                if active is not None:
                    _keep(self._path, retired_path(self._path, active.kid))
                reached(Step.KEPT)
                next_path(self._path).replace(self._path)
                sync_directory(self._path.parent)
            reached(Step.RENAMED)
            active, moved = ready, True
        return self._promote_public(active, reached) or moved

    def _promote_public(self, active: RsaKeys, reached: Seam) -> bool:
        shown = _public_kid(self._path)
        if shown == active.kid:
            return False
        public, ready = public_path(self._path), public_path(next_path(self._path))
        with change_explained(public.parent):
            if shown is not None:
                _keep(public, public_path(retired_path(self._path, shown)))
            reached(Step.PUBLIC_KEPT)
            if _public_kid(next_path(self._path)) == active.kid:
                ready.replace(public)
            else:
                public.unlink(missing_ok=True)
                restore_public_half(active.public_key, self._path)
            sync_directory(public.parent)
        return True

    def _find(self, kid: str, *others: Path) -> RsaKeys | None:
        for path in (next_path(self._path), *others):
            if _public_kid(path) not in {kid, None}:
                continue  # validating a private key takes 0.4 s
            found = self._load(path)
            if found is not None and found.kid == kid:
                return found
        # At last, since the next key may have got this name meanwhile; whatever its
        # public half says, which follows later.
        found = self._load(self._path)
        return found if found is not None and found.kid == kid else None

    def _load(self, path: Path) -> RsaKeys | None:
        if not key_exists(path):
            return None
        return load_keys(path, self._passphrase)


def _public_kid(private_path: Path) -> str | None:
    """Return the kid of the public half beside a private one; None if unreadable."""
    try:
        return keypolicy.key_id(load_public_key(public_path(private_path)))
    except (KeyRefused, KeyUnavailable):
        return None


def _keep(path: Path, name: Path) -> None:
    """Give a file a second name; it may have it already.

    Raises:
        FileExistsError: another file has the name.
    """
    try:
        os.link(path, name)
    except FileExistsError:
        if name.read_bytes() != path.read_bytes():
            raise
    sync_directory(path.parent)
