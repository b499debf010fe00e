"""Advice on the terminal."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from frugalclip.core.progress import in_minutes
from frugalclip.core.terminal import Terminal


def show_ranking(advice: Mapping[str, Any], console: Terminal) -> None:
    """Print the data, its baselines and the ranking."""
    profile = advice["profile"]
    best = max(profile["baselines"], key=lambda name: profile["baselines"][name], default=None)
    copying = "" if best is None else f", best baseline {profile['baselines'][best]:.1f} % ({best})"
    console.print(
        f"{advice['data']}: {profile['pairs']:,} pairs to train on, {profile['validation']:,} to measure on. "
        f"{profile['metric']}: chance {profile['chance']:.1f} %{copying}.",
        highlight=False,
        soft_wrap=True,
    )
    table = Table("route", "predicted, 80 % interval", "time", "memory", "why")
    for one in advice["ranking"]:
        interval = one["interval"]
        value = (
            "not known"
            if interval is None
            else f"{one['value']:.1f} ({interval[0]:.1f} to {interval[1]:.1f})"
        )
        time = "not known" if one["seconds"] is None else in_minutes(one["seconds"])
        late = "" if one["fits"] else ", too long"
        table.add_row(one["name"], value, time + late, f"{one['memory_gb']:.2f} GB", one["reason"])
    console.print(table)
    console.print(f"Predicted from {advice['runs_behind_it']:,} runs on other data.", highlight=False)
