"""Figures beside their targets: a table for people, `build/bench.json` for machines."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

FILE = Path("build/bench.json")


@dataclass(frozen=True)
class Figure:
    """One measurement. `ok`: within its target; a figure without a target is for comparison."""

    name: str
    figure: float
    target: float | None
    unit: str
    better: Literal["lower", "higher"] = "lower"

    @property
    def is_of_this_machine(self) -> bool:
        """Whether it is a time by itself: a slower machine misses it, and nothing is wrong."""
        return self.unit in {"ms", "us", "s", "reviews/s"}

    @property
    def ok(self) -> bool:
        """Whether the figure is as good as it should be."""
        if self.target is None:
            return True
        return self.figure <= self.target if self.better == "lower" else self.figure >= self.target


def show(title: str, figures: list[Figure]) -> None:
    """Prints the figures as they come, so that a long run shows its progress."""
    print(f"\n{title}")
    for one in figures:
        sign = "≤" if one.better == "lower" else "≥"
        target = "" if one.target is None else f"{sign} {_number(one.target)} {one.unit}"
        print(
            f"  {one.name:<58}{_number(one.figure):>10} {one.unit:<10}{target:<18}{'' if one.ok else 'MISSED'}",
            flush=True,
        )


def write(figures: list[Figure]) -> None:
    """Writes all figures as a list of objects."""
    FILE.parent.mkdir(exist_ok=True)
    rows = [
        {"name": f.name, "figure": round(f.figure, 4), "target": f.target, "unit": f.unit, "ok": f.ok} for f in figures
    ]
    FILE.write_text(json.dumps(rows, indent=2) + "\n")
    missed = [figure for figure in figures if not figure.ok]
    slow = sum(figure.is_of_this_machine for figure in missed)
    note = f" ({slow} of them times of this machine, beside which the ratios count)" if slow else ""
    print(f"\n{len(missed)} of {sum(f.target is not None for f in figures)} targets missed{note}; {FILE}")


def _number(value: float) -> str:
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
