"""From what was measured to what is printed: records, Markdown."""

import os
import platform
import re
import statistics
import time
from pathlib import Path
from typing import Any, Final

from against import Part
from loads import Load, Plan, Row

_TITLES: Final = {
    "classic": "The classic API",
    "v1": "The v1 API",
    "django": "Beside django-otp",
    "postgres": "PostgreSQL beside SQLite",
    "scale": "A million accounts",
    "workers": "Two workers beside one",
    "import": "Bulk import",
    "curves": "Plots",
}
_HEAD: Final = (
    "| | ours | other | ratio: median (min-max) | target | p50 ms | p99 ms"
    " | processor per answer, µs |"
)


def machine() -> str:
    """Return the machine in a line."""
    text = Path("/proc/cpuinfo").read_text()
    model = re.search(r"model name\s*: (.*)", text)
    return (
        f"{os.cpu_count()} x {model[1] if model else platform.machine()},"
        f" Linux {platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def as_record(part: Part, plan: Plan, command: str) -> dict[str, Any]:
    """Return what is kept of a part."""
    busy = [
        load.others_share
        for row in part.rows
        for load in (*row.ours, *row.theirs)
        if load.answers
    ]
    return {
        "when": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "how": f"{plan.pairs} pairs of {plan.seconds:g} s",
        "command": f"{command} --pairs {plan.pairs} --seconds {plan.seconds:g}",
        "others": round(statistics.median(busy), 2) if busy else None,
        "rows": [_row(row) for row in part.rows],
        "facts": part.facts,
        "curves": part.curves,
    }


def _row(row: Row) -> dict[str, Any]:
    middle, ratios = statistics.median(row.ratios), row.ratios
    missed = row.target is not None and (
        middle > row.target if row.most else middle < row.target
    )
    return {
        "name": row.name,
        "ours": _middle(row.figures(row.ours)),
        "theirs": _middle(row.figures(row.theirs)),
        "unit": " ms" if row.latency else "/s",
        "ratio": f"{middle:.2f} ({min(ratios):.2f}-{max(ratios):.2f})",
        "target": _target(row),
        "missed": missed,
        "p50": _both(row, "p50_ms"),
        "p99": _both(row, "p99_ms"),
        "cpu_us": _both(row, "cpu_us", digits=0),
    }


def _target(row: Row) -> str:
    if row.target is None:
        return ""
    return f"{'≤' if row.most else '≥'} {row.target:g}"


def _middle(values: list[float]) -> str:
    middle = statistics.median(values)
    return f"{middle:.0f}" if middle >= 100 else f"{middle:.1f}"


def _both(row: Row, name: str, digits: int = 1) -> str:
    def middle(loads: list[Load]) -> str:
        return f"{statistics.median(getattr(load, name) for load in loads):.{digits}f}"

    return f"{middle(row.ours)}, {middle(row.theirs)}"


def printed(name: str, record: dict[str, Any]) -> str:
    """Return a part as Markdown."""
    lines = [f"### {_TITLES[name]}", ""]
    how = f"`{record['command']}`, {record['when']}, {record['machine']}"
    if record["others"] is not None:
        how += f"; other programs used {record['others']:.2f} of a core meanwhile"
    lines += [f"{how}.", ""]
    if record["rows"]:
        lines += [_HEAD, "|---|---|---|---|---|---|---|---|"]
    for row in record["rows"]:
        target = row["target"] + (" **missed**" if row["missed"] else "")
        unit = row["unit"]
        lines.append(
            f"| {row['name']} | {row['ours']}{unit} | {row['theirs']}{unit}"
            f" | {row['ratio']} | {target} | {row['p50']} | {row['p99']}"
            f" | {row['cpu_us']} |"
        )
    if record["rows"] and record["facts"]:
        lines.append("")
    lines += [f"- {fact}" for fact in record["facts"]]
    if record["curves"]:
        lines.append("")
    for curve in record["curves"]:
        lines += [f"![Cost against {curve}](img/verify-{curve}.png)", ""]
    return "\n".join(lines).rstrip()
