"""README.md and docs/: what they show is run, what they name exists."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from otpseal import totp
from otpseal.adapters.file_keys import RsaKeys, write_key_pair
from otpseal.audit import Kind
from otpseal.cli import EXIT_CODES, app
from otpseal.config import Settings
from otpseal.envelope import seal
from otpseal.secret import Secret
from otpseal.throttle import DEFAULT_POLICY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
DOCS = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
ADRS = sorted(ROOT.glob("docs/adr/*.md"))
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text("utf-8") for path in DOCS}
REFERENCE = TEXTS["docs/reference.md"]
MAX_README_LINES = 200

#: What both sides say on stderr while they make their first key.
TOLD = "INFO making an RSA-4096 key for the new store"

#: What differs from run to run; the rest of a transcript must be as it is printed.
VARIABLE = (
    (r"127\.0\.0\.1:[0-9]+", "HOST"),
    (r'"code":"[0-9]{6}","valid_for":([1-9]|[12][0-9]|30)\}', '"code":CODE}'),
    (r"secret=[A-Z2-7]{32}&", "secret=SEED&"),
    (r'"step":[0-9]{8}\}', '"step":STEP}'),
    (r"684 characters, [A-Za-z0-9+/]{24}\.\.\.", "684 characters, SEALED..."),
)

pytestmark = pytest.mark.timeout(600)


def without_variables(text: str) -> str:
    """Return a transcript with its variable parts named."""
    for pattern, name in VARIABLE:
        text = re.sub(pattern, name, text)
    return text


def blocks(language: str) -> list[str]:
    """Return README's code blocks of a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def console(first_command: str) -> list[tuple[str, str]]:
    """Return commands and outputs of the console block with that first command."""
    (block,) = [
        block for block in blocks("console") if block.startswith(f"$ {first_command}")
    ]
    steps = re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]
    return [
        (command, output) for command, _, output in (s.partition("\n") for s in steps)
    ]


def table(heading: str, text: str = README) -> list[list[str]]:
    """Return the rows of the first table under a heading, without its head."""
    section = text.split(f"\n{heading}\n", 1)[1]
    (first, *_) = re.findall(r"(?:^\|.*\n)+", section, re.MULTILINE)
    rows = [line.strip("|").split("|") for line in first.splitlines()[2:]]
    return [[cell.strip() for cell in row] for row in rows]


def environment() -> dict[str, str]:
    """Return this process's environment without settings and proxies."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if "OTPSEAL_" not in name and "proxy" not in name.lower()
    }
    return kept | {"PYTHONUNBUFFERED": "1", "COLUMNS": "200"}


def otpseal() -> str:
    """Return the installed command."""
    return str(Path(sys.executable).with_name("otpseal"))


def make_target(name: str) -> str:
    """Return a target's line and recipe from the Makefile."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    found = re.search(rf"^{re.escape(name)}:.*\n(?:\t.*\n)*", makefile, re.MULTILINE)
    assert found, f"no target {name}"
    return found.group()


@pytest.fixture
def sealed_seeds(tmp_path: Path, service_keys: RsaKeys) -> Path:
    """A directory with the key of a service and two seeds that are sealed to it."""
    write_key_pair(
        service_keys._private_key, tmp_path / "data" / "keys" / "student_private.pem"
    )
    for name, byte in (("encrypted_seed.txt", b"\x01"), ("another_seed.txt", b"\x02")):
        sealed = seal(Secret(byte * 32), service_keys.public_key)
        (tmp_path / name).write_text(sealed, "ascii")
    return tmp_path


@pytest.fixture
def service_url(sealed_seeds: Path) -> Iterator[str]:
    """A service of that key, without a seed."""
    process = subprocess.Popen(
        [otpseal(), "serve", "--port", "0"],
        cwd=sealed_seeds,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        ready = re.search(r"ready on (\S+)", process.stdout.readline())
        assert ready
        yield ready.group(1)
    finally:
        process.terminate()
        process.communicate(timeout=30)


class TestRun:
    """What README shows is what happens."""

    def test_make_run(self, tmp_path: Path) -> None:
        """`make run` prints what README shows, but for ports, codes and seconds."""
        ((_, shown),) = console("make run")
        lines = shown.splitlines()
        start = lines.index(TOLD)
        made = lines[:start]
        toured = [line for line in lines[start:] if line != TOLD]

        ran = subprocess.run(
            [otpseal(), "demo", "--once"],
            cwd=tmp_path,
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )

        assert ran.returncode == 0, ran.stderr
        assert without_variables("\n".join(toured)) == without_variables(
            ran.stdout.rstrip("\n")
        )
        assert lines.count(TOLD) == ran.stderr.splitlines().count(TOLD)
        assert "$(BIN)/otpseal demo\n" in make_target("run")
        said = (ROOT / "Makefile").read_text("utf-8").replace("$(VENV)", ".venv")
        assert made
        for line in made:
            assert f'@echo "{line}"' in said

    def test_make_test(self) -> None:
        """`make test` runs what README shows, and ends as it shows."""
        ((_, shown),) = console("make test")
        installing, command, dots, end = shown.splitlines()

        said = (ROOT / "Makefile").read_text("utf-8").replace("$(VENV)", ".venv")
        assert f'@echo "{installing}"' in said
        assert command.replace(".venv/bin", "$(BIN)") in make_target("test")
        assert dots == "..."
        assert re.fullmatch(r"=+ \d+ passed, \d+ skipped in [\d.]+s( \(.*\))? =+", end)

    @pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
    def test_the_classic_api(self, sealed_seeds: Path, service_url: str) -> None:
        """Each call by curl is answered as README shows."""
        setup, *calls = console("url=")
        functions = setup[0].replace("http://127.0.0.1:8080", service_url)
        assert functions != setup[0]
        codes: dict[str, str] = {}

        for command, shown in calls:
            done = subprocess.run(
                ["bash", "-c", f"{functions}\n{with_codes(command, codes)}"],
                cwd=sealed_seeds,
                env=environment(),
                capture_output=True,
                text=True,
                check=False,
            )

            assert (command, without_variables(shown), "") == (
                command,
                without_variables(done.stdout),
                done.stderr,
            )
            codes |= zip(codes_in(shown), codes_in(done.stdout), strict=True)
        assert codes

    @pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
    def test_the_v1_api(self, sealed_seeds: Path, service_url: str) -> None:
        """Its lines, run one after the other in one shell, print what README shows."""
        steps = console("token=")
        mark = "-- next --"
        lines = [f"{command}\necho '{mark}'" for command, _ in steps]
        script = "\n".join(lines).replace("http://127.0.0.1:8080", service_url)

        done = subprocess.run(
            ["bash", "-c", script],
            cwd=sealed_seeds,
            env=environment()
            | {"PATH": f"{Path(otpseal()).parent}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )

        printed = done.stdout.split(f"{mark}\n")[:-1]
        assert [without_variables(shown) for _, shown in steps] == [
            without_variables(said) for said in printed
        ]
        assert done.stderr == ""

    def test_every_answer_of_the_contract_is_shown(self) -> None:
        """The block shows success and every error that needs no fault to be seen."""
        shown = "".join(output for _, output in console("url="))

        for status in (200, 400, 409, 415, 422, 429, 500):
            assert f"  {status}\n" in shown

    def test_the_library(
        self, sealed_seeds: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The lines for library users run, as they are."""
        (lines,) = blocks("python")
        monkeypatch.chdir(sealed_seeds)

        exec(compile(lines, "README.md", "exec"), {})

        assert (sealed_seeds / "data" / "otpseal.db").exists()
        assert lines.count("assert ") == 2


class TestTables:
    """README's tables and the program cannot drift apart."""

    def test_settings(self) -> None:
        """The table has every setting with its default, and no other."""
        shown = {
            name.strip("`"): default.strip("`")
            for name, default, _ in table("## Settings", REFERENCE)
        }

        assert shown == {
            f"OTPSEAL_{name.upper()}": default_of(field.default)
            for name, field in Settings.model_fields.items()
        }

    def test_settings_have_units(self) -> None:
        """Each number in the table has its unit or its meaning beside it."""
        numbers = {
            name: meaning
            for name, default, meaning in table("## Settings", REFERENCE)
            if default.strip("`").isdigit()
        }

        assert numbers
        for name, meaning in numbers.items():
            assert re.search(
                r"bytes|steps of 30 s|days|a minute|processes|port|pairs", meaning
            ), name

    def test_commands(self) -> None:
        """The table has every command, and no other."""
        shown = re.findall(
            r"`otpseal ([a-z -]+)`",
            " ".join(row[0] for row in table("## The command line", REFERENCE)),
        )

        assert sorted(shown) == sorted(set(leaves()))

    def test_exit_codes(self) -> None:
        """docs/reference.md names every exit code, and no other."""
        (line,) = re.findall(r"^Exit codes: (.*)$", REFERENCE, re.MULTILINE)

        shown = {int(number) for number in re.findall(r"(?<!\d)\d(?!\d)", line)}

        assert shown == {0, *EXIT_CODES.values()}

    def test_check_values(self) -> None:
        """The check values in docs/protocol.md are the codes of their times."""
        protocol = TEXTS["docs/protocol.md"]
        (seed,) = re.findall(r"the seed `([0-9a-f]{64})`", protocol)
        rows = re.findall(r"^\| (\d+) \| `(\d{6})` \|$", protocol, re.MULTILINE)

        assert len(rows) == 6
        for at, code in rows:
            assert code == totp.hotp(bytes.fromhex(seed), totp.step_at(int(at)))

    def test_domain_tags(self) -> None:
        """docs/protocol.md names the labels and tags of the source, and no other."""
        source = "".join(
            (ROOT / "src" / "otpseal" / name).read_text("utf-8")
            for name in ("storage_key.py", "authority.py", "access.py", "receipt.py")
        )
        pattern = r"[`\"](otpseal [a-z ]+ v[12])(?:\\0)?[`\"]"

        shown = set(re.findall(pattern, TEXTS["docs/protocol.md"]))

        assert shown == set(re.findall(pattern, source))

    def test_the_throttle(self) -> None:
        """The throttle law is told with the numbers of the policy."""
        policy = DEFAULT_POLICY
        law = (
            f"From n = {policy.threshold} on it starts a wait of"
            f" min({policy.first_wait_s} · 2^(n-{policy.threshold}),"
            f" {policy.max_wait_s:,}) seconds."
        )

        assert law in TEXTS["docs/protocol.md"]
        assert f"At n = {policy.disable_at} the account" in TEXTS["docs/protocol.md"]


class TestNames:
    """What the words name exists."""

    @pytest.mark.parametrize("name", TEXTS)
    def test_links(self, name: str) -> None:
        """Every relative link leads to a file."""
        for target in re.findall(r"\]\(([^)]+)\)", TEXTS[name]):
            if "://" not in target:
                path = target.partition("#")[0]
                assert (ROOT / name).parent.joinpath(path).exists(), target

    @pytest.mark.parametrize("name", TEXTS)
    def test_tests(self, name: str) -> None:
        """Every test that is named exists, to its class and function."""
        for path, inner in re.findall(r"(tests/[\w/.]*\w)((?:::\w+)*)", TEXTS[name]):
            assert (ROOT / path).exists(), path
            if inner:
                tree: ast.AST = ast.parse((ROOT / path).read_text("utf-8"))
                for part in inner.split("::")[1:]:
                    tree = child(tree, part, where=f"{path}{inner}")

    def test_the_threat_model_names_tests(self) -> None:
        """Most attacks of the left column name the test that shows them refused."""
        text = TEXTS["docs/threat-model.md"]
        protected = re.findall(r"^\| (?!protects|-)([A-Z][^|]*) \|", text, re.MULTILINE)

        assert len(protected) > 20
        assert [] == [row for row in protected if "tests/" not in row]

    @pytest.mark.parametrize("name", TEXTS)
    def test_commands(self, name: str) -> None:
        """Every command and every target of make that is named exists."""
        known = set(leaves())
        known |= {words.rpartition(" ")[0] for words in known}  # groups of them
        text = re.sub(r"`otpseal [a-z ]+ v[12]`", "", TEXTS[name])  # domain tags
        for words in re.findall(
            r"(?:`|/bin/|service )otpseal ([a-z]+(?: [a-z-]+)?)", text
        ):
            group = words.split()[0]
            assert words in known or group in known, words
        for target in re.findall(r"`make ([a-z]+)`", TEXTS[name]):
            assert make_target(target)

    @pytest.mark.parametrize("name", TEXTS)
    def test_settings(self, name: str) -> None:
        """Every variable that is named is read by something."""
        read = {f"OTPSEAL_{field.upper()}" for field in Settings.model_fields}
        read |= set(
            re.findall(
                r"OTPSEAL_[A-Z0-9_]+",
                (ROOT / "docker-compose.yml").read_text("utf-8")
                + (ROOT / "src/otpseal/cli/request.py").read_text("utf-8"),
            )
        )

        assert set(re.findall(r"OTPSEAL_[A-Z0-9_]+", TEXTS[name])) <= read

    def test_audit_kinds(self) -> None:
        """An event that is named is in the vocabulary."""
        prefixes = "|".join({kind.value.partition(".")[0] for kind in Kind})
        for name, text in TEXTS.items():
            for kind in re.findall(
                rf"`((?:{prefixes})\.(?!txt|py|lock|turn)[a-z-]+)`", text
            ):
                assert kind in {known.value for known in Kind}, f"{name}: {kind}"


class TestForm:
    """The words keep to their form."""

    def test_readme_is_short(self) -> None:
        """README can be read at one sitting."""
        assert len(README.splitlines()) <= MAX_README_LINES

    @pytest.mark.parametrize("name", TEXTS)
    def test_speaks_of_no_machine(self, name: str) -> None:
        """No path of a developer's machine and no registry's host is in the words."""
        foreign = re.findall(
            r"(?<![\w.])/(?:work|root|home|Users|opt/pypi)\b|/tmp/(?:tmp|pytest)"
            r"|pypi\.org|pythonhosted|docker\.io|ghcr\.io|quay\.io|gcr\.io",
            TEXTS[name],
        )

        assert foreign == []

    def test_decisions(self) -> None:
        """ADRs are numbered without a gap and have their four parts."""
        assert [f"{n:04}" for n in range(1, len(ADRS) + 1)] == [
            path.name[:4] for path in ADRS
        ]
        for path in ADRS:
            text = path.read_text("utf-8")
            assert text.startswith(f"# {int(path.name[:4])}. "), path.name
            assert re.search(
                r"^Status: (accepted|superseded by \d{4})$", text, re.MULTILINE
            )
            heads = re.findall(r"^## (.*)$", text, re.MULTILINE)
            assert heads == ["Context", "Decision", "Consequences"], path.name

    def test_the_place_of_the_measurements(self) -> None:
        """The benchmark finds the one place where it writes."""
        assert TEXTS["docs/performance.md"].count("<!-- measured -->") == 1

    @pytest.mark.parametrize(
        "wrong",
        [
            '{"code":"12345","valid_for":11}',
            '{"code":"123456","valid_for":0}',
            '{"code":"123456","valid_for":31}',
            "683 characters, GFWUkTcnYp0KFG7cYlcNi3a6...",
        ],
    )
    def test_not_everything_is_variable(self, wrong: str) -> None:
        """A transcript of another shape is not taken for the one shown."""
        assert wrong == without_variables(wrong)


def codes_in(output: str) -> list[str]:
    """Return the codes that an output shows."""
    return re.findall(r'"code":"([0-9]{6})"', output)


def with_codes(command: str, codes: Mapping[str, str]) -> str:
    """Return a command with the codes of this run in place of those shown."""
    for there, here in codes.items():
        command = command.replace(there, here)
    return command


def default_of(value: object) -> str:
    """Return a setting's default as the table has it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(value) or "empty"
    return str(value)


def leaves(group: Any = None, before: str = "") -> Iterator[str]:  # noqa: ANN401
    """Yield every command that does something, by its words."""
    group = typer.main.get_command(app) if group is None else group
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, f"{before}{name} ")
        else:
            yield before + name


def child(tree: ast.AST, name: str, *, where: str) -> ast.AST:
    """Return the class or function of that name inside `tree`."""
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, kinds) and node.name == name:
            return node
    pytest.fail(f"{where} does not exist")
