"""What processes use: processor time and memory, as Linux tells."""

import os
from dataclasses import dataclass
from pathlib import Path


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
        total = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]
        ticks = os.sysconf("SC_CLK_TCK")
        busy = sum(map(int, total[:8])) - int(total[3]) - int(total[4])
        server = sum(_seconds(member) for member in family(pid))
        return cls(server, children, busy / ticks, times.elapsed)

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


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int, field_name: str = "VmRSS") -> float:
    """Return a process's resident memory in MB (10**6 bytes)."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split(f"{field_name}:")[1].split()[0]) * 1024 / 1e6
