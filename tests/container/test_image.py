"""What is in the image, in every layer of it."""

import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from container.harness import CANARY, docker, logs_of, wait_for

pytestmark = pytest.mark.timeout(300)

PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{32}")
SECRET_NAME = re.compile(
    r"(^|/)((student|instructor)_(private|public)\.pem|encrypted_seed.*|seed\.txt"
    r"|last_code\.txt.*|otpseal\.db|\.env)$"
)


def files_of_layers(image: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each file of each layer, deleted ones included."""
    with tarfile.open(image) as archive:
        member = archive.extractfile("manifest.json")
        assert member is not None
        for name in json.load(member)[0]["Layers"]:
            with tarfile.open(fileobj=archive.extractfile(name)) as layer:
                for entry in layer:
                    file = layer.extractfile(entry) if entry.isreg() else None
                    if file is not None:
                        yield entry.name, file.read()


def test_no_layer_holds_a_secret(saved_image: Path) -> None:
    """No key, seed, store or code log in any layer, though the checkout had them."""
    canary = CANARY.encode()
    names = set()
    suspects = []

    for name, content in files_of_layers(saved_image):
        names.add(name)
        if (
            SECRET_NAME.search(name)
            # Libraries of Debian carry the keys of their self-tests.
            or (".so" not in name and PRIVATE_KEY.search(content))
            or canary in content
            or re.match(r"(data|keys|cron|run/secrets)/", name)
        ):
            suspects.append(name)

    assert suspects == []
    # What the search would see if it were there.
    assert "app/scripts/log_2fa_cron.py" in names
    assert "etc/cron.d/2fa-cron" in names


def test_the_search_for_secrets_finds_one() -> None:
    """The patterns above know a key and a seed file when they see them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )

    assert PRIVATE_KEY.search(b"#\n" + pem)
    assert SECRET_NAME.search("data/seed.txt")
    assert SECRET_NAME.search("app/student_private.pem")


def test_the_history_holds_no_secret(image: str) -> None:
    """`docker history` shows no secret, and that the CA came as a secret mount."""
    history = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}", image)

    assert CANARY not in history
    assert "PRIVATE KEY" not in history
    assert "BEGIN CERTIFICATE" not in history
    assert "HEALTHCHECK" in history


def test_the_settings_hold_no_secret_and_choose_no_access(image: str) -> None:
    """Paths only: a container started by hand is not open by accident."""
    env = json.loads(docker("inspect", "--format", "{{json .Config.Env}}", image))
    settings = dict(entry.split("=", 1) for entry in env)

    assert {name: v for name, v in settings.items() if name.startswith("OTPSEAL_")} == {
        "OTPSEAL_DATA_DIR": "/data",
        "OTPSEAL_KEY_FILE": "/keys/student_private.pem",
        "OTPSEAL_CODE_LOG": "/cron/last_code.txt",
        "OTPSEAL_HOST": "0.0.0.0",
        "OTPSEAL_PORT": "8080",
    }
    assert settings["TZ"] == "UTC"


def test_no_compiler_and_no_installer_at_run_time(image: str) -> None:
    """What builds stays in the first stage."""
    script = (
        "for tool in cc gcc make /opt/otpseal/venv/bin/pip; do"
        " if command -v $tool; then exit 1; fi; done;"
        " ! /opt/otpseal/venv/bin/python -c 'import pip' 2>/dev/null"
    )

    docker("run", "--rm", "--network=none", "--entrypoint=sh", image, "-c", script)


def test_it_refuses_to_start_until_access_is_chosen(image: str) -> None:
    """`docker run` alone ends with a code that is not 0 and says what to set."""
    container = docker("run", "--detach", "--network=none", image).strip()
    try:
        state = ("inspect", "--format", "{{.State.Status}} {{.State.ExitCode}}")
        wait_for(
            "the container's end",
            lambda: docker(*state, container).startswith("exited"),
            within_s=60,
        )
        exit_code = int(docker(*state, container).split()[1])
        logs = logs_of(container)
    finally:
        docker("rm", "--force", "--volumes", container)

    assert exit_code != 0
    assert "OTPSEAL_CLASSIC_ACCESS" in logs
