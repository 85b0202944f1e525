"""OpenSSL's command line: the other implementation that ours must agree with."""

import subprocess
from pathlib import Path

#: What makes `openssl pkeyutl` speak the OAEP of CONTRACT.md.
OAEP_SHA256 = (
    *("-pkeyopt", "rsa_padding_mode:oaep"),
    *("-pkeyopt", "rsa_oaep_md:sha256"),
    *("-pkeyopt", "rsa_mgf1_md:sha256"),
)


def openssl(*arguments: str | Path, stdin: bytes = b"") -> bytes:
    """Run `openssl` and return what it prints; fails the test if it fails."""
    ran = subprocess.run(
        ["openssl", *arguments], input=stdin, capture_output=True, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


def pss_sha256(salt_length: int | str) -> tuple[str, ...]:
    """Return what makes `openssl dgst` speak PSS with that salt."""
    return (
        *("-sha256", "-sigopt", "rsa_padding_mode:pss"),
        *("-sigopt", f"rsa_pss_saltlen:{salt_length}"),
        *("-sigopt", "rsa_mgf1_md:sha256"),
    )
