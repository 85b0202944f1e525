"""No core dumps: real processes, killed by SIGABRT where they would leave a core."""

import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_fixture import children, code_at, is_running, sealed_to, serving

from otpseal.adapters.file_keys import RsaKeys

CORE_PATTERN = Path("/proc/sys/kernel/core_pattern")

#: What a shell with `ulimit -c unlimited` starts, in a directory of its choice.
UNLIMITED = (
    "import resource, sys, os;"
    "hard = resource.getrlimit(resource.RLIMIT_CORE)[1];"
    "resource.setrlimit(resource.RLIMIT_CORE, (hard, hard));"
    "os.chdir(sys.argv.pop(1));"
    "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
)

#: Holds a canary in memory, made so that it stands in no file or argument.
HOLDER = (
    "import sys, time\n"
    "canary = bytes.fromhex(sys.stdin.readline())\n"
    "{protection}\n"
    "print('ready', flush=True)\n"
    "time.sleep(60)\n"
)

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="core dumps are looked at in Linux's way"
)


def dumped(process: "subprocess.Popen[bytes]") -> bool:
    """Abort a process; tells whether the kernel says that it left a core."""
    process.send_signal(signal.SIGABRT)
    ended = os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert ended is not None
    assert ended.si_status == signal.SIGABRT
    process.wait()
    return ended.si_code == os.CLD_DUMPED


def cores_in(directory: Path) -> list[Path]:
    """Return the core files in a directory."""
    return sorted(directory.glob("*core*"))


def abort_holder(directory: Path, protection: str) -> bool:
    """Abort a Python that holds a canary and may leave a core; tells whether it did."""
    canary = os.urandom(32)
    holder = HOLDER.format(protection=protection)
    process = subprocess.Popen(
        [sys.executable, "-c", UNLIMITED, str(directory), "-c", holder],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdin
    assert process.stdout
    process.stdin.write(canary.hex().encode() + b"\n")
    process.stdin.flush()
    assert process.stdout.readline() == b"ready\n"
    left = dumped(process)
    process.communicate()
    for core in cores_in(directory):
        assert canary in core.read_bytes(), "a core without what it is about"
    return left


def cores_are_possible() -> str | None:
    """Return why this machine would leave no core in a process's directory."""
    if resource.getrlimit(resource.RLIMIT_CORE)[1] == 0:
        return "the hard limit on core files is 0 here"
    pattern = CORE_PATTERN.read_text().strip()
    if pattern.startswith(("|", "/")) or "core" not in pattern:
        return f"cores go elsewhere here: {pattern!r}"
    return None


def test_the_control_leaves_a_core(tmp_path: Path) -> None:
    """Negative control: without the protection there is a core, and a canary in it."""
    if reason := cores_are_possible():
        pytest.skip(reason)

    assert abort_holder(tmp_path, "")
    assert len(cores_in(tmp_path)) == 1


@pytest.mark.parametrize(
    "protection",
    [
        "from otpseal.process import forbid_core_dumps; forbid_core_dumps()",
        # Each half alone: the limit, and what holds where cores go to a program.
        "import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))",
        "import ctypes; ctypes.CDLL(None).prctl(4, 0, 0, 0, 0)",
    ],
)
def test_the_protection_leaves_none(tmp_path: Path, protection: str) -> None:
    """The same program with it, or with half of it, is killed without a core."""
    assert not abort_holder(tmp_path, protection)
    assert [] == cores_in(tmp_path)


@pytest.mark.parametrize("workers", [1, 2])
def test_the_program_leaves_none(
    tmp_path: Path, service_keys: RsaKeys, workers: int
) -> None:
    """`ulimit -c unlimited`, a seed in memory, SIGABRT: no core, of any process.

    Each has a limit of 0, the workers and their parent.
    """
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    program = [sys.executable, "-c", UNLIMITED, str(cwd), "-m", "otpseal"]
    with serving(tmp_path, service_keys, program=program, workers=workers) as server:
        assert server.bring(sealed_to(service_keys)).status == 200
        assert server.verify(code_at(time.time())).json == {"valid": True}
        pids = [*children(server.process.pid), server.process.pid]
        for pid in pids:
            assert (0, 0) == resource.prlimit(pid, resource.RLIMIT_CORE)
            assert cwd == Path(f"/proc/{pid}/cwd").resolve()
            # What the kernel shows of an undumpable process is root's. To root it
            # all looks alike: see the test of the commands.
            assert Path(f"/proc/{pid}/environ").stat().st_uid == 0
        for pid in pids[:-1]:
            os.kill(pid, signal.SIGABRT)
        left = dumped(server.process)

    assert not left
    assert [] == list(cwd.iterdir())
    due = time.monotonic() + 30
    while any(map(is_running, pids[:-1])) and time.monotonic() < due:
        time.sleep(0.05)  # whoever adopted them waits for them
    assert not any(map(is_running, pids[:-1]))


def test_every_command_is_undumpable() -> None:
    """Whatever is run: the command line's entry asks for it first."""
    program = (
        "import ctypes, sys, otpseal.cli\n"
        "prctl = ctypes.CDLL(None).prctl\n"
        "print(prctl(3, 0, 0, 0, 0))\n"  # PR_GET_DUMPABLE
        "sys.argv = ['otpseal', 'no-such-command']\n"
        "try: otpseal.cli.main()\n"
        "except SystemExit: print(prctl(3, 0, 0, 0, 0))\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert ["1", "0"] == ran.stdout.split()


def test_the_limit_of_open_files_is_raised() -> None:
    """As far as the system lets it, and never lowered."""
    program = (
        "import resource, otpseal.process as process\n"
        "kind = resource.RLIMIT_NOFILE\n"
        "hard = resource.getrlimit(kind)[1]\n"
        "resource.setrlimit(kind, (64, hard))\n"
        "process.raise_descriptor_limit()\n"
        "print(*resource.getrlimit(kind), hard)\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    soft, hard, before = map(int, ran.stdout.split())

    assert hard == before
    assert soft == (min(hard, 65_536) if hard > 0 else 65_536)
