"""Plot: the curves of a robustness comparison as a picture. The only place that imports matplotlib."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from momok.model.errors import UserError
from momok.model.runtime.directory import replace_file

SUFFIXES = (".svg", ".png")
TITLES = {
    "noise": "share of features that are noise",
    "missing": "share of features missing",
    "sparsity": "share of train facts missing",
}

Curves = Mapping[str, Mapping[str, Sequence[tuple[float, float, float]]]]
"""Scenario -> model -> (rate, mean, deviation) by rate."""


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return find_spec("matplotlib") is not None


def check_plot(path: Path) -> None:
    """Raises ``UserError`` where matplotlib is missing or the suffix is none of ``SUFFIXES``."""
    if not can_plot():
        raise UserError("a plot needs matplotlib: pip install 'momok[plot]'; tables are written without it")
    if path.suffix not in SUFFIXES:
        raise UserError(f"{path}: a plot is a file {' or '.join(SUFFIXES)}")


def plot_curves(curves: Curves, path: Path, *, ylabel: str) -> None:
    """One panel a scenario, one line a model, a bar for the deviation over seeds. Raises ``UserError``.

    The same numbers give the same file: no date, no random ids.
    """
    check_plot(path)
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "momok", "font.size": 9}):
        figure = Figure(figsize=(3.2 * len(curves), 2.8), layout="constrained")
        axes = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
        for panel, (scenario, by_model) in zip(axes, curves.items(), strict=True):
            for model, points in by_model.items():
                rates, means, deviations = zip(*points, strict=True)
                panel.errorbar(rates, means, deviations, marker="o", markersize=3, capsize=2, label=model)
            panel.set_xlabel(TITLES[scenario])
            panel.set_xlim(-0.05, 1)
            panel.grid(alpha=0.3)
        axes[0].set_ylabel(ylabel)
        axes[0].set_ylim(bottom=0)
        if any(by_model for by_model in curves.values()):
            axes[0].legend()
        svg = path.suffix == ".svg"
        metadata = {"Date": None, "Creator": None} if svg else {"Software": None}
        with replace_file(path, UserError) as partial:
            figure.savefig(partial, format=path.suffix[1:], metadata=metadata, dpi=150)
