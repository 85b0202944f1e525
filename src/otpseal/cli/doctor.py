"""`otpseal doctor`: what is wrong with a service, and what to do about it."""

import sys
import time
from typing import TYPE_CHECKING

import typer

from otpseal.cli.options import AsJson, DataDir, KeyFile, print_json
from otpseal.config import load_settings
from otpseal.errors import ConfigurationError

if TYPE_CHECKING:
    from otpseal.findings import Finding

_WIDE = 1000


def doctor(
    data_dir: DataDir = None, key_file: KeyFile = None, as_json: AsJson = False
) -> None:
    """Check settings, files, key, store, audit log, clock, code log and free space.

    Changes nothing, and works while the service runs. Exit code 1 if anything failed;
    warnings are none.
    """
    from otpseal.doctor import examine
    from otpseal.findings import Verdict, failure

    try:
        settings = load_settings(data_dir=data_dir, key_file=key_file)
    except ConfigurationError as error:
        findings = [failure("configuration", str(error), "correct this setting first")]
    else:
        findings = list(examine(settings, clock=time.time))
    healthy = all(finding.verdict is not Verdict.FAILURE for finding in findings)
    if as_json:
        print_json({"healthy": healthy, "findings": [_as_dict(f) for f in findings]})
    else:
        _print_table(findings)
    if not healthy:
        raise typer.Exit(1)


def _as_dict(finding: "Finding") -> dict[str, str]:
    return {
        "check": finding.check,
        "verdict": finding.verdict.value,
        "text": finding.text,
        "advice": finding.advice,
    }


def _print_table(findings: "list[Finding]") -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(
        width=None if sys.stdout.isatty() else _WIDE, markup=False, highlight=False
    )
    table = Table("", "check", box=None)
    table.add_column("found", overflow="fold")
    for finding in findings:
        table.add_row(finding.verdict.value, finding.check, finding.text)
        if finding.advice:
            table.add_row("", "", f"-> {finding.advice}")
    console.print(table)
