"""otpseal.totp: the RFCs' tables, other implementations, and the laws of matching."""

import base64
import hashlib
import json
import math
import subprocess
from pathlib import Path

import pyotp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from otpseal import totp
from otpseal.secret import Secret

_VECTORS = Path(__file__).parent / "vectors"
_RFC4226 = json.loads((_VECTORS / "rfc4226_appendix_d.json").read_text())
_RFC6238 = json.loads((_VECTORS / "rfc6238_appendix_b.json").read_text())
_CONTRACT = json.loads((_VECTORS / "contract_totp.json").read_text())
_COLLISIONS = json.loads((_VECTORS / "totp_collisions.json").read_text())["collisions"]

_SEED = Secret(bytes.fromhex(_CONTRACT["hex_seed"]))


def _match(
    seed: Secret,
    code: str,
    now: float,
    *,
    window: int,
    parameters: totp.Parameters = totp.CLASSIC,
) -> int | None:
    """Return the step of `code` in the window at `now`."""
    among = totp.candidates(seed, now, window=window, parameters=parameters)
    return totp.match(code, among)


_DIGESTS = {"SHA1": hashlib.sha1, "SHA256": hashlib.sha256, "SHA512": hashlib.sha512}

# From 112 bits on, as RFC 4226 section 4 wants; pyotp refuses shorter ones.
_seeds = st.binary(min_size=14, max_size=128)
_algorithms = st.sampled_from(sorted(_DIGESTS))
_times = st.floats(min_value=0, max_value=2.0**40)
_parameters = st.builds(
    totp.Parameters,
    algorithm=_algorithms,
    digits=st.integers(6, 8),
    period=st.integers(1, 120),
)


def _pyotp_code(seed: bytes, counter: int, digits: int, algorithm: str) -> str:
    secret = base64.b32encode(seed).decode("ascii")
    return pyotp.HOTP(secret, digits=digits, digest=_DIGESTS[algorithm]).at(counter)


class TestPublished:
    """Tables that others printed."""

    def test_rfc_4226_appendix_d(self) -> None:
        """The ten HOTP values of the RFC."""
        secret = _RFC4226["secret"].encode("ascii")

        codes = [totp.hotp(secret, counter) for counter in range(10)]

        assert _RFC4226["hotp"] == codes

    @pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
    @pytest.mark.parametrize("row", _RFC6238["codes"], ids=lambda row: row["time"])
    def test_rfc_6238_appendix_b(self, algorithm: str, row: dict[str, str]) -> None:
        """Each of the 18 codes, shown by pyotp and matched by our own arithmetic."""
        seed = Secret(_RFC6238["secrets"][algorithm].encode("ascii"))
        parameters = totp.Parameters(algorithm=algorithm, digits=8)
        now, step = float(row["time"]), int(row["step"], 16)

        code = totp.generate(seed, now, parameters)
        matched = _match(seed, row[algorithm], now, window=0, parameters=parameters)

        assert row[algorithm] == code.text
        assert step == totp.step_at(now)
        assert step == matched

    @pytest.mark.parametrize(("time", "expected"), _CONTRACT["codes"].items())
    def test_contract(self, time: str, expected: str) -> None:
        """The check values of CONTRACT.md."""
        now = float(time)

        code = totp.generate(_SEED, now)
        matched = _match(_SEED, expected, now, window=0)

        assert expected == code.text
        assert totp.step_at(now) == matched


class TestOtherImplementations:
    """oathtool and pyotp say the same."""

    @pytest.mark.parametrize("digits", [6, 7, 8])
    def test_oathtool_hotp(self, digits: int) -> None:
        """A hundred counters from 0 on, and a hundred around 2**32."""
        for first in (0, 2**32 - 50):
            ran = subprocess.run(
                [
                    *("oathtool", "--hotp", "-c", str(first), "-w", "99"),
                    *("-d", str(digits), _SEED.reveal().hex()),
                ],
                capture_output=True,
                check=True,
                text=True,
            )

            codes = [
                totp.hotp(_SEED.reveal(), first + n, digits=digits) for n in range(100)
            ]

            assert ran.stdout.split() == codes

    @pytest.mark.parametrize("algorithm", ["SHA1", "SHA256", "SHA512"])
    @pytest.mark.parametrize(("digits", "period"), [(6, 30), (8, 30), (7, 60)])
    def test_oathtool_totp(self, algorithm: str, digits: int, period: int) -> None:
        """A hundred steps from one instant on, for each algorithm."""
        now = 1_800_000_017
        ran = subprocess.run(
            [
                *("oathtool", f"--totp={algorithm}", "-d", str(digits), "-w", "99"),
                *("-s", f"{period}s", "-N", f"@{now}", _SEED.reveal().hex()),
            ],
            capture_output=True,
            check=True,
            text=True,
        )
        parameters = totp.Parameters(algorithm, digits, period)

        codes = [
            totp.generate(_SEED, now + n * period, parameters).text for n in range(100)
        ]

        assert ran.stdout.split() == codes

    @given(
        seed=_seeds,
        counter=st.integers(0, 2**64 - 1),
        digits=st.integers(6, 10),
        algorithm=_algorithms,
    )
    def test_pyotp(
        self, seed: bytes, counter: int, digits: int, algorithm: str
    ) -> None:
        """For every seed, counter, length and algorithm both give one code."""
        expected = _pyotp_code(seed, counter, digits, algorithm)

        code = totp.hotp(seed, counter, digits=digits, algorithm=algorithm)

        assert expected == code


class TestGenerate:
    """A code and how long it lasts."""

    @given(seed=_seeds, now=_times, parameters=_parameters)
    def test_valid_for_is_the_rest_of_the_step(
        self, seed: bytes, now: float, parameters: totp.Parameters
    ) -> None:
        """The code holds to the last second of valid_for and not one longer."""
        code = totp.generate(Secret(seed), now, parameters)

        step = totp.step_at(now, parameters.period)
        last = math.floor(now) + code.valid_for - 1
        assert 1 <= code.valid_for <= parameters.period
        assert code.text == totp.generate(Secret(seed), last, parameters).text
        assert step == totp.step_at(last, parameters.period)
        assert step + 1 == totp.step_at(last + 1, parameters.period)

    @pytest.mark.parametrize(
        ("now", "valid_for"),
        [(0, 30), (0.5, 30), (1, 29), (29, 1), (29.999, 1), (30, 30), (59.5, 1)],
    )
    def test_valid_for_at_the_edges(self, now: float, valid_for: int) -> None:
        """It is 30 at the start of a step and 1 at its end, never 0."""
        assert valid_for == totp.generate(_SEED, now).valid_for

    @given(seed=_seeds, now=_times, parameters=_parameters)
    def test_a_shown_code_matches_its_step(
        self, seed: bytes, now: float, parameters: totp.Parameters
    ) -> None:
        """What is shown at an instant is accepted at that instant, as a real code."""
        code = totp.generate(Secret(seed), now, parameters)

        step = _match(Secret(seed), code.text, now, window=0, parameters=parameters)

        assert totp.is_code(code.text, parameters.digits)
        assert totp.step_at(now, parameters.period) == step


class TestMatch:
    """Which step a code belongs to."""

    @given(
        seed=_seeds,
        now=_times,
        window=st.integers(0, 1),
        distance=st.integers(-3, 3),
        parameters=_parameters,
    )
    def test_is_the_latest_step_of_the_window_with_that_code(
        self,
        seed: bytes,
        now: float,
        window: int,
        distance: int,
        parameters: totp.Parameters,
    ) -> None:
        """The law, with pyotp's codes: inside the window, or None."""
        current = totp.step_at(now, parameters.period)

        def code_of(step: int) -> str:
            return _pyotp_code(seed, step, parameters.digits, parameters.algorithm)

        attempt = code_of(max(0, current + distance))
        steps = range(max(0, current - window), current + window + 1)
        expected = max(
            (step for step in steps if code_of(step) == attempt), default=None
        )

        found = _match(Secret(seed), attempt, now, window=window, parameters=parameters)

        assert expected == found

    @pytest.mark.parametrize("collision", _COLLISIONS, ids=["next", "next but one"])
    def test_a_code_of_two_steps_is_of_the_later(
        self, collision: dict[str, int | str]
    ) -> None:
        """Real collisions: the later step is spent, and with it the earlier."""
        first, second = int(collision["first"]), int(collision["second"])
        code = str(collision["code"])
        assert code == totp.hotp(_SEED.reveal(), first)
        assert code == totp.hotp(_SEED.reveal(), second)
        middle = 30.0 * (second - 1)

        assert second == _match(_SEED, code, middle, window=1)
        assert first == _match(_SEED, code, 30.0 * (first - 1), window=1)
        assert second == _match(_SEED, code, 30.0 * (second + 1), window=1)

    @pytest.mark.parametrize(
        ("window", "first", "end"), [(0, 3000.0, 3030.0), (1, 2970.0, 3060.0)]
    )
    def test_the_window_ends_at_the_edges_of_steps(
        self, window: int, first: float, end: float
    ) -> None:
        """The code of step 100 counts from `first` on and until just before `end`."""
        code = totp.hotp(_SEED.reveal(), 100)

        inside = [first, math.nextafter(end, 0), 3000.0, 3029.999]
        outside = [math.nextafter(first, 0), end]

        for now in inside:
            assert 100 == _match(_SEED, code, now, window=window), now
        for now in outside:
            assert None is _match(_SEED, code, now, window=window), now

    def test_there_is_no_step_before_the_first(self) -> None:
        """At step 0 the window is 0 and 1; nothing negative is computed."""
        codes = [totp.hotp(_SEED.reveal(), step) for step in range(3)]

        found = [_match(_SEED, code, 0.0, window=1) for code in codes]

        assert [0, 1, None] == found

    def test_every_step_is_computed_whichever_matches(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The time an answer takes does not tell which step matched, or none."""
        computed: list[int] = []
        real = totp.hotp

        def counted(key: bytes, counter: int, **options: object) -> str:
            computed.append(counter)
            return real(key, counter, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(totp, "hotp", counted)

        for step in (99, 100, 101, 500):
            computed.clear()
            _match(_SEED, real(_SEED.reveal(), step), 3000.0, window=1)
            assert [99, 100, 101] == computed


class TestStrictDigits:
    """What is not exactly so many ASCII digits is no code."""

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "12345",
            "1234567",
            " 123456",
            "123456 ",
            "123456\n",
            "12345\n",
            "123 456",
            "\uff11\uff12\uff13\uff14\uff15\uff16",  # full-width
            "\u0661\u0662\u0663\u0664\u0665\u0666",  # Arabic-Indic
            "12345\u0666",
            "12345\u00b2",  # superscript two
            "12345\ud800",  # a lone surrogate
            "+12345",
            "-12345",
            "1_2345",
            "12345.",
            "0x1234",
            "1e1234",
            "12345\0",
            "abcdef",
        ],
        ids=ascii,
    )
    def test_refused(self, text: str) -> None:
        """Neither Unicode's other digits, nor white space, nor signs."""
        assert not totp.is_code(text)

    @given(
        text=st.text(alphabet=st.characters(categories=["Nd"]), min_size=5, max_size=9),
        digits=st.integers(6, 8),
    )
    def test_only_ascii(self, text: str, digits: int) -> None:
        """Of all that Unicode calls decimal digits, only 0 to 9."""
        expected = len(text) == digits and all(char in "0123456789" for char in text)

        assert expected == totp.is_code(text, digits)

    @given(number=st.integers(0, 999_999))
    def test_every_padded_number_is_a_code(self, number: int) -> None:
        """Leading zeros belong to it."""
        assert totp.is_code(f"{number:06d}")
