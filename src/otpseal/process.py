"""What a process of ours asks of the kernel: no core dumps, enough descriptors."""

import contextlib
import ctypes
import logging
import os
import resource
import sys
from typing import Final

#: More than this many connections no single process of ours will hold.
_ENOUGH_DESCRIPTORS: Final = 65_536

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h

_log = logging.getLogger("otpseal")


def forbid_core_dumps() -> None:
    """Keep this process's memory, and with it keys and seeds, out of core files.

    The limit alone is not enough: Linux ignores it where cores go to a program
    (`core_pattern` begins with a pipe, as with systemd-coredump). A process that is
    not dumpable leaves none there either, and no other process of its user may trace
    it or read its memory. An exec undoes that, so every process asks for itself.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0) != 0:
            reason = os.strerror(ctypes.get_errno())
            _log.warning("this process could be dumped by a program: %s", reason)


def raise_descriptor_limit() -> None:
    """Allow as many open files as may be allowed: a connection is one of them.

    The usual soft limit of 1024 would let a thousand idle strangers shut out
    everyone else.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _ENOUGH_DESCRIPTORS
    wanted = most if hard == resource.RLIM_INFINITY else min(hard, most)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):  # some systems have a lower cap
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
