"""`make bench`: what the service costs, as ratios within one run.

Every server runs as one process pinned to one core, the load generator (wrk) on
another, unless a row says otherwise; ours and the other take turns, and the ratio is
taken pair by pair, so that a machine that changes its speed changes both.

With `--write` the tables go to docs/performance.md and the plots to docs/img; parts
that were not measured this time keep the figures of their last run.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import against
import sizes
from against import Bench, Part
from loads import HERE, Plan
from tables import as_record, machine, printed

PARTS: Final[Mapping[str, Callable[[Bench], Part]]] = {
    "classic": against.classic,
    "v1": against.v1,
    "django": against.against_django,
    "postgres": sizes.postgres,
    "scale": sizes.scale,
    "workers": against.workers,
    "import": sizes.importing,
    "curves": sizes.curves,
}
QUICK: Final = Plan(pairs=1, seconds=1, accounts=20_000, imported=2000)
MEASURED: Final = HERE / "measured.json"
DOCUMENT: Final = HERE.parent / "docs" / "performance.md"


def main() -> None:
    """Parse the options, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    usual = Plan()
    parser.add_argument("--pairs", type=int, help=f"default: {usual.pairs}")
    parser.add_argument("--seconds", type=int, help=f"default: {usual.seconds:g}")
    parser.add_argument("--accounts", type=int, help="in the large store")
    parser.add_argument(
        "--patience", type=float, default=0, help="seconds to wait for others' quiet"
    )
    parser.add_argument("--quick", action="store_true", help="whether it works at all")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, by commas")
    parser.add_argument("--write", action="store_true", help="docs/performance.md")
    options = parser.parse_args()
    chosen = options.only.split(",")
    if unknown := set(chosen) - {*PARTS}:
        sys.exit(f"no such part: {', '.join(unknown)}. There are {', '.join(PARTS)}")
    if shutil.which("wrk") is None:
        sys.exit("wrk is missing: apt-get install wrk")
    measure(chosen, _plan(options), write=options.write)


def _plan(options: argparse.Namespace) -> Plan:
    base = QUICK if options.quick else Plan()
    return Plan(
        pairs=options.pairs or base.pairs,
        seconds=options.seconds or base.seconds,
        accounts=options.accounts or base.accounts,
        imported=base.imported,
        patience_s=options.patience,
    )


def measure(chosen: list[str], plan: Plan, *, write: bool) -> None:
    """Run the parts, and print each as soon as it is done."""
    missed = []
    with tempfile.TemporaryDirectory(prefix="otpseal-bench-") as directory:
        bench = Bench(plan, Path(directory))
        for name, run in PARTS.items():
            if name not in chosen:
                continue
            part = run(bench)
            record = as_record(part, plan, f"bench/bench.py --only {name}")
            print(f"\n{printed(name, record)}", flush=True)
            missed += [row["name"] for row in record["rows"] if row["missed"]]
            if write:
                _keep(name, record)
    print(f"\n{machine()}")
    for name in missed:
        print(f"missed its target: {name}")


def _keep(name: str, record: dict[str, Any]) -> None:
    """Put a part's figures where the document and the plots are made from."""
    kept = json.loads(MEASURED.read_text()) if MEASURED.exists() else {}
    kept[name] = record
    MEASURED.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n")
    head = DOCUMENT.read_text().split("<!-- measured -->")[0]
    parts = [printed(part, kept[part]) for part in PARTS if part in kept]
    document = "\n\n".join([f"{head}<!-- measured -->", *parts])
    DOCUMENT.write_text(document + "\n")
    if name == "curves":
        from plot import draw  # matplotlib takes a second

        draw(record["curves"], DOCUMENT.parent / "img")


if __name__ == "__main__":
    started = time.monotonic()
    main()
    print(f"{time.monotonic() - started:.0f} s in all", file=sys.stderr)
