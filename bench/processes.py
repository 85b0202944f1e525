"""What processes use: processor time and memory, as Linux tells."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

_QUIET = 0.2


@dataclass(frozen=True)
class Used:
    """Seconds of processor time: of a server, of our children, of everybody."""

    server: float
    client: float
    all: float
    elapsed: float

    @classmethod
    def now(cls, pid: int) -> "Used":
        """Return what was used up to now; `server` of that process and its children."""
        times = os.times()
        children = times.children_user + times.children_system
        server = sum(_seconds(member) for member in family(pid))
        return cls(server, children, _busy(), times.elapsed)

    def since(self, before: "Used") -> "Used":
        """Return what was used since `before`."""
        return Used(
            self.server - before.server,
            self.client - before.client,
            self.all - before.all,
            self.elapsed - before.elapsed,
        )


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [pid, *map(int, path.read_text().split())]


def wait_until_quiet(patience_s: float) -> None:
    """Wait until other programs use less than `_QUIET` of a core; not for ever."""
    due = time.monotonic() + patience_s
    while time.monotonic() < due:
        before = _busy()
        time.sleep(1)
        if _busy() - before < _QUIET:
            return


def _busy() -> float:
    """Return the seconds that all cores together have worked."""
    total = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    idle, waiting = int(total[3]), int(total[4])
    return (sum(map(int, total)) - idle - waiting) / os.sysconf("SC_CLK_TCK")


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, field_name: str = "VmRSS") -> float:
    """Return a process's resident memory in MB (10**6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field_name}:")[1].split()[0]) * 1024 / 1e6
