"""The plots of docs/performance.md, from the figures in bench/measured.json.

bench/plot.py    draws them anew
"""

import json
from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt

HERE = Path(__file__).parent
_LABELS = {
    "accounts": "accounts in the store (32 connections)",
    "connections": "connections (1,000 accounts)",
}


def draw(curves: dict[str, list[list[float]]], directory: Path) -> None:
    """Draw one picture for each curve: rate and median answer time."""
    directory.mkdir(exist_ok=True)
    for name, points in curves.items():
        xs, rates, medians = zip(*points, strict=True)
        figure, left = plt.subplots(figsize=(6, 3.2), layout="constrained")
        right = left.twinx()
        left.plot(xs, rates, "o-", color="tab:blue")
        right.plot(xs, medians, "s--", color="tab:red")
        left.set_xscale("log", base=10 if name == "accounts" else 2)
        left.set_xlabel(_LABELS[name])
        left.set_ylabel("verifications per second", color="tab:blue")
        right.set_ylabel("median answer, ms", color="tab:red")
        left.set_ylim(bottom=0)
        right.set_ylim(bottom=0)
        left.xaxis.set_major_formatter("{x:,.0f}")
        left.grid(visible=True, alpha=0.3)
        # No date and no version in it: the same figures give the same file.
        figure.savefig(
            directory / f"verify-{name}.png", dpi=100, metadata={"Software": None}
        )
        plt.close(figure)


if __name__ == "__main__":
    measured = json.loads((HERE / "measured.json").read_text())
    draw(measured["curves"]["curves"], HERE.parent / "docs" / "img")
