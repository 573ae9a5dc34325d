"""Cost against the number of entities: `retrieval.py` at several sizes, each in its own process, plotted.

    python benchmarks/growth.py --out DIR [--entities 15000 150000 1000000] [--decision sum] [--table ...]

Writes DIR/growth.json (what each run printed) and DIR/growth.svg: milliseconds a query, alone and in batches
of 256, of each engine and of the approximate index. ``growth_<engine>_<batch>`` is the factor by which a
query became dearer from the second-largest size to the largest, ``growth_entities`` that of the entities.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

SCANS = {"scan": "scan", "scan-bfloat16": "scan in bfloat16", "scan-int8": "scan in int8"}
SHOWN = {"bare": "bare product", **SCANS, "index": "index"}
BATCHES = (1, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--entities", type=int, nargs="+", default=[15_000, 150_000, 1_000_000])
    parser.add_argument("--decision", default="sum")
    parser.add_argument("--table", default="clustered")
    parser.add_argument("--rounds", default="8")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs = [_run(number, arguments) for number in sorted(arguments.entities)]
    result = {"runs": runs, **_growth(runs)}
    (arguments.out / "growth.json").write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    _plot(runs, arguments.out / "growth.svg", f"{arguments.table}, {arguments.decision}")
    print(json.dumps({name: value for name, value in result.items() if name != "runs"}))


def _run(number: int, arguments: argparse.Namespace) -> dict[str, Any]:
    command = [sys.executable, str(Path(__file__).with_name("retrieval.py")), "--json", "--index", "ivf"]
    command += ["--entities", str(number), "--rounds", arguments.rounds, "--engines", *SCANS]
    command += ["--decision", arguments.decision, "--table", arguments.table]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    print(done.stdout, file=sys.stderr, end="")
    return found


def _milliseconds(run: dict[str, Any], engine: str, batch: int) -> float:
    ratio = 1.0 if engine == "bare" else run[f"{engine}_{batch}"]
    return float(ratio * run[f"bare_ms_{batch}"] / batch)


def _growth(runs: list[dict[str, Any]]) -> dict[str, float]:
    if len(runs) < 2:
        return {}
    before, after = runs[-2:]
    factors = {
        f"growth_{engine}_{batch}": _milliseconds(after, engine, batch) / _milliseconds(before, engine, batch)
        for engine in SHOWN
        for batch in BATCHES
    }
    return {"growth_entities": after["entities"] / before["entities"], **factors}


def _plot(runs: list[dict[str, Any]], path: Path, title: str) -> None:
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"  # Text stays text.

    figure = Figure(figsize=(9, 4), layout="constrained")
    for axes, batch in zip(figure.subplots(1, len(BATCHES), sharey=True), BATCHES, strict=True):
        for engine, label in SHOWN.items():
            values = [_milliseconds(run, engine, batch) for run in runs]
            axes.loglog([run["entities"] for run in runs], values, marker="o", label=label)
        axes.set(title=f"{title}, batch {batch}", xlabel="entities", ylabel="ms a query")
        axes.grid(visible=True, which="major", alpha=0.3)
    axes.legend()
    figure.savefig(path, metadata={"Date": None})


if __name__ == "__main__":
    main()
