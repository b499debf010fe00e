"""Prototypes under an imposed gap between the modalities (0, 0.5, 1, 2), with and without back translation.

The gap is ProtoCLIP's reason for back translation. Expected before the runs: plain prototypes lose their gain
as the gap grows, since centres of shifted captions hold little about images; back translation is unharmed,
since it compares each modality with its own means. Noto is held out; the arms are otherwise those of
benchmarks/signals.py. Finished trials are not trained again.
Run: FRUGALCLIP_PACKS=... python benchmarks/gap.py [--seeds 3] [--samples 16000] [--jobs 2]
"""

import os
from pathlib import Path

from _common import EMOJI, compared, options, written
from signals import ARMS, protoclip, questions

from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.records import write_json
from frugalclip.core.yaml_text import read_yaml

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"
GAPS = (0, 0.5, 1, 2)


def gapped(gap: float, *, back_translation: bool) -> dict[str, object]:
    """ProtoCLIP with shifted captions."""
    content = protoclip(f"ProtoCLIP, a gap of {gap} imposed.", back_translation=back_translation)
    settings = content["objectives"].pop("prototypes")
    content["objectives"]["gapped"] = {"kind": "arms.gap_prototypes", **settings, "gap": gap}
    return content


def main() -> None:
    """Train what is missing and write the record."""
    chosen = options(__doc__ or "", "../gap", seeds=3, samples=16_000, jobs=2)
    os.environ["PYTHONPATH"] = os.pathsep.join(
        filter(None, [str(HERE), os.environ.get("PYTHONPATH", "")])
    )  # trials find the objective there
    arms = {"clip-proto": ARMS["clip-proto"]}
    arms |= {
        f"{name}-{gap:g}": gapped(gap, back_translation=name == "translated")
        for gap in GAPS
        for name in ("plain", "translated")
    }
    files = written(arms, RUNS / "gap-arms")
    protocol = ProtocolConfig.model_validate(read_yaml(EMOJI) | {"folds": ["noto"]})
    shared = {"samples": chosen.samples, "protocol": protocol}
    found = compared(list(files.values()), chosen, reference="clip-proto", is_record=False, **shared)
    comparisons = {
        f"back translation at a gap of {gap:g}": (f"plain-{gap:g}", [f"translated-{gap:g}"]) for gap in GAPS
    }
    write_json(chosen.json, found | {"questions": questions(comparisons, files, chosen, **shared)})


if __name__ == "__main__":
    main()
