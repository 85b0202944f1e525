"""The server loop: signals at any moment of its life."""

import subprocess
import sys

import pytest

# Signals itself at the first moment of uvicorn's loop, before uvicorn listens to
# signals; then says whether it went on after the server had stopped.
_PROGRAM = """
import os, signal, sys
from otpseal.http import server

async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})

serve = server._Server.serve

async def signalled(self, sockets=None):
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    await serve(self, sockets)

server._Server.serve = signalled
server.run(app, server.bind("127.0.0.1", 0), on_ready=lambda: None)
print("went on")
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT"])
def test_a_signal_during_the_start_is_obeyed(name: str) -> None:
    """It stops the server as one later would, and the caller goes on: exit code 0."""
    command = [sys.executable, "-c", _PROGRAM, name]

    ran = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )

    assert (0, "went on\n", "") == (ran.returncode, ran.stdout, ran.stderr)
