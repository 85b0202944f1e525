"""`otpseal doctor` and the machine: files, their modes and owners, room, cron's table.

Nothing is opened that could be changed by it.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from otpseal.config import Settings
from otpseal.errors import ConfigurationError
from otpseal.findings import Finding, failure, ok, warning
from otpseal.health import MIN_FREE, free_share
from otpseal.store_inspection import database_path
from otpseal.unlocking import SERVICE_KEY_NAME

_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH
_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def check_directory(settings: Settings) -> Iterator[Finding]:
    """The data directory: there, ours, and closed to others."""
    path, check = settings.data_dir, "data directory"
    try:
        status = path.stat()
    except OSError as error:
        yield failure(
            check,
            f"{path}: {error.strerror}",
            "name it by --data-dir or OTPSEAL_DATA_DIR; `otpseal serve` makes it",
        )
        return
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid != os.geteuid():
        yield failure(
            check,
            f"{path} belongs to uid {status.st_uid}, this runs as {os.geteuid()}",
            "run this as the user of the service",
        )
    elif mode & _OTHERS_WRITE:
        yield failure(
            check,
            f"{path} may be written to by others (mode {mode:04o})",
            f"chmod 700 {path}",
        )
    elif mode & _OTHERS:
        yield warning(
            check, f"{path} is open to others (mode {mode:04o})", f"chmod 700 {path}"
        )
    elif not os.access(path, os.W_OK | os.X_OK):
        yield failure(check, f"{path} is not writable", f"chmod 700 {path}")
    else:
        yield ok(check, f"{path}, mode {mode:04o}")


def check_files(settings: Settings) -> Iterator[Finding]:
    """Database, key and secret files: there, and closed to others."""
    try:
        database = database_path(settings)
    except ConfigurationError as error:
        yield failure("database file", str(error), "correct OTPSEAL_DATABASE_URL")
        database = None
    if database is not None:
        yield _check_file("database file", database, serious=False)
    yield _check_key(settings)
    for check, path in (
        ("token PIN file", settings.pkcs11_pin_file),
        ("passphrase file", settings.key_passphrase_file),
        ("database password file", settings.database_password_file),
        ("TLS key file", settings.tls_key_file),
        ("TLS passphrase file", settings.tls_key_passphrase_file),
        ("token file", settings.classic_token_file),
        ("metrics token file", settings.metrics_token_file),
    ):
        if path is not None:
            yield _check_file(check, path, serious=False)
    if (settings.data_dir / "seed.txt").exists():
        yield warning(
            "seed.txt",
            "a seed in clear is in the data directory",
            "start the service once: it imports the seed and destroys the file; or"
            " remove it",
        )


def _check_key(settings: Settings) -> Finding:
    try:
        settings.other_key_place()
        if settings.key_uri() is not None:
            # Whether it is there, and opens, is seen together with the store.
            return ok("private key", "in a token (OTPSEAL_KEY)")
        path = settings.key_path(SERVICE_KEY_NAME)
    except ConfigurationError as error:
        return failure("private key", str(error), "correct that setting")
    return _check_file("private key file", path, serious=True)


def _check_file(check: str, path: Path, *, serious: bool) -> Finding:
    try:
        status = path.stat()
    except OSError as error:
        return failure(
            check,
            f"{path}: {error.strerror}",
            "name the right one, or restore it from a backup",
        )
    mode = stat.S_IMODE(status.st_mode)
    if not stat.S_ISREG(status.st_mode):
        return failure(check, f"{path} is no regular file", "name the right one")
    if not os.access(path, os.R_OK):
        return failure(check, f"{path} is not readable", f"chmod 600 {path}")
    if mode & _OTHERS:
        text = f"{path} is open to others (mode {mode:04o})"
        make = failure if serious or mode & _OTHERS_WRITE else warning
        return make(check, text, f"chmod 600 {path}")
    return ok(check, f"{path}, mode {mode:04o}")


def check_space(settings: Settings) -> Iterator[Finding]:
    """Room where state is written."""
    directories = [settings.data_dir]
    if settings.code_log is not None:
        directories.append(settings.code_log.parent)
    for directory in directories:
        # That it is missing is another check's to say.
        if not directory.exists():
            continue
        share = free_share(directory)
        text = f"{directory}: {share:.0%} free"
        if share < MIN_FREE:
            yield failure("free space", text, "make room before writing fails")
        else:
            yield ok("free space", text)


def check_cron(table: Path) -> Iterator[Finding]:
    """Cron's table in the container: what cron would drop in silence."""
    check = "cron table"
    try:
        status, content = table.stat(), table.read_bytes()
    except OSError as error:
        yield failure(check, f"{table}: {error.strerror}", "restore the image's own")
        return
    if b"\r" in content or not content.endswith(b"\n"):
        yield failure(
            check,
            f"{table} has a carriage return or no last newline: cron ignores it",
            "give it LF line ends and a last newline",
        )
    elif status.st_uid != 0 or stat.S_IMODE(status.st_mode) & _OTHERS_WRITE:
        yield failure(
            check,
            f"{table} must belong to root and be written by root alone",
            f"chown root {table}; chmod 644 {table}",
        )
    else:
        yield ok(check, str(table))
