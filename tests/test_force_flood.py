"""Sealed seeds that cost an RSA decryption each, by the hundred: codes go on."""

import asyncio
import base64
import json
import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import pytest
from server_fixture import JSON_TYPE, SEED, call, sealed_to, serving, wrong_code_at

from otpseal.adapters.file_keys import RsaKeys

pytestmark = [pytest.mark.torture, pytest.mark.timeout(600)]

RATE = 500
P99_S = 0.1
_FULL = bool(os.environ.get("OTPSEAL_TORTURE"))


async def flood(port: int, seconds: float) -> dict[int, int]:
    """Send garbage of a sealed seed's length, `RATE` a second; returns statuses."""
    body = json.dumps(
        {"encrypted_seed": base64.b64encode(b"\1" + secrets.token_bytes(511)).decode()}
    ).encode()
    head = (
        f"POST /decrypt-seed HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close"
        f"\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    seen: dict[int, int] = {}

    async def one() -> None:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head.encode() + body)
            status = int((await reader.readline()).split()[1])
            writer.close()
        except (OSError, IndexError):
            status = 0
        seen[status] = seen.get(status, 0) + 1

    # An open loop: what does not answer in time is not waited for.
    async with asyncio.TaskGroup() as tasks:
        begun = time.monotonic()
        for number in range(int(RATE * seconds)):
            await asyncio.sleep(max(0, begun + number / RATE - time.monotonic()))
            tasks.create_task(one())
    return seen


def test_codes_are_checked_while_decryptions_flood(
    tmp_path: Path, service_keys: RsaKeys
) -> None:
    """500 decrypt requests a second: no attempt fails, p99 under 100 ms in torture."""
    seconds = 20 if _FULL else 4
    with serving(tmp_path, service_keys) as server:
        sealed = json.dumps({"encrypted_seed": sealed_to(service_keys)}).encode()
        reply = call(server.port, "POST", "/decrypt-seed", sealed, JSON_TYPE)
        assert 200 == reply.status
        flooding = subprocess.Popen(
            [sys.executable, __file__, str(server.port), str(seconds)],
            stdout=subprocess.PIPE,
        )
        took, statuses = [], set()
        while flooding.poll() is None:
            body = json.dumps({"code": wrong_code_at(time.time(), SEED)}).encode()
            started = time.monotonic()
            reply = call(server.port, "POST", "/verify-2fa", body, JSON_TYPE)
            took.append(time.monotonic() - started)
            statuses.add(reply.status)
            time.sleep(0.01)
        output, _ = flooding.communicate()
        after = call(server.port, "GET", "/generate-2fa")
    seen = {int(status): count for status, count in json.loads(output).items()}
    p99 = sorted(took)[int(len(took) * 0.99)]
    print(f"{len(took)} attempts, p99 {p99 * 1000:.1f} ms, flood answered {seen}")

    assert 200 == after.status
    # Wrong codes, then throttled: decided either way, never an error.
    assert statuses <= {200, 429}
    # Tried or turned away, which depends on the machine; and most of them came.
    assert seen[500] > 0
    assert set(seen) <= {0, 429, 500}
    assert sum(seen.values()) == int(RATE * seconds)
    assert seen.get(0, 0) < RATE
    assert not _FULL or p99 < P99_S


if __name__ == "__main__":
    print(json.dumps(asyncio.run(flood(int(sys.argv[1]), float(sys.argv[2])))))
