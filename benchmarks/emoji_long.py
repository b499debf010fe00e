"""The emoji comparison at four times its length, on a GPU: is `frugal` still ahead of open_clip?

64,000 samples a run in batches of 64, every style held out in turn: open_clip as shipped, `clip-small` and
`frugal`. Each arm's peak learning rate is the best of three on validation concepts at half the length.
Towers, pixels and all else are those of emoji.py.

Expected before the runs: all three above their values after 16,000 samples; `frugal` above nine percent and
so above copying by pixels (6.5); its lead over open_clip smaller in proportion and no smaller in points.
Evaluated on unseen concepts of the test split (docs/log.md records how often it was used). Finished trials
are not trained again.
Run: FRUGALCLIP_PACKS=... python benchmarks/emoji_long.py [--seeds 6] [--samples 64000] [--jobs 8]
"""

from typing import Any

from _common import HERE, best_rates, compared, devices, options, written

from frugalclip.core.records import environment, write_json
from frugalclip.core.yaml_text import read_yaml

RATES: dict[str, tuple[float, ...]] = {
    "open_clip": (5e-4, 1.5e-3, 3e-3),
    "default": (7.5e-4, 1.5e-3, 3e-3),
    "frugal": (1.5e-3, 3e-3, 6e-3),
}


def at(name: str, rate: float) -> dict[str, Any]:
    """An arm of emoji.py at a peak learning rate."""
    content = read_yaml(HERE / "arms" / f"{name}.yaml")
    place = content["settings"] if "command" in content else content.setdefault("optimizer", {})
    place["lr"] = rate
    return content


def main() -> None:
    """Choose rates, train what is missing and write the record."""
    chosen = options(__doc__ or "", "../emoji-long", seeds=6, samples=64_000, jobs=8)
    rates = best_rates(RATES, at, chosen, samples=chosen.samples // 2)
    files = written(
        {name: at(name, one["rate"]) for name, one in rates.items()},
        HERE.parent / "runs" / f"{chosen.json.stem}-arms",
    )
    found = compared(
        list(files.values()),
        chosen,
        reference="open_clip",
        samples=chosen.samples,
        is_record=False,
        clock="wall",
    )
    write_json(
        chosen.json,
        found | {"rates": rates, "devices": devices(chosen.json.stem), "environment": environment()},
    )


if __name__ == "__main__":
    main()
