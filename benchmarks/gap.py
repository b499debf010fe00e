"""Prototypes under an imposed gap between the modalities (0, 0.5, 1, 2), with and without back translation: ProtoCLIP's reason for it.

What was expected before anything was run: plain prototypes lose what they gain as the gap grows, since centres of moved captions say little about
pictures; back translation stays where it is, since each modality is compared with means of its own. Noto left out, the arms otherwise those of
benchmarks/signals.py; trials that are finished are not trained again.
Run: FRUGALCLIP_PACKS=... python benchmarks/gap.py [--seeds 3] [--samples 16000] [--jobs 2]
"""

import os
from pathlib import Path

from _common import EMOJI, compared, options, written
from signals import ARMS, protoclip, questions

from frugalclip.comparison.protocol import ProtocolConfig
from frugalclip.core.config import read_yaml
from frugalclip.core.records import write_json

HERE = Path(__file__).resolve().parent
RUNS = HERE.parent / "runs"
GAPS = (0, 0.5, 1, 2)


def gapped(gap: float, *, back_translation: bool) -> dict[str, object]:
    """ProtoCLIP with captions moved aside."""
    content = protoclip(f"ProtoCLIP, a gap of {gap} imposed.", back_translation=back_translation)
    settings = content["objectives"].pop("prototypes")
    content["objectives"]["gapped"] = {"kind": "arms.gap_prototypes", **settings, "gap": gap}
    return content


def main() -> None:
    """Train what is missing and write what the runs say."""
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
    requested = {
        f"back translation at a gap of {gap:g}": (f"plain-{gap:g}", [f"translated-{gap:g}"]) for gap in GAPS
    }
    write_json(chosen.json, found | {"questions": questions(requested, files, chosen, **shared)})


if __name__ == "__main__":
    main()
