"""Claim: `compress`, then `export --to onnx --precision int8`: a fraction of the cost, and it finds as much.

For a teacher and its students, those with uneven layers among them, in fp32 and int8: parameters, bytes of
the graphs, images a second on one core, and the reciprocal rank of retrieval on 2,208 test scenes. int8 is
calibrated and gated on validation scenes. OpenVINO computes the same graphs beside ONNX Runtime, where it is
installed. Last, a model that computes the teacher's function with some features 3,000 times as large, which
int8 cannot hold: the gate has to refuse it.

A transformer of width 384 whose weights are drawn shows speed and bytes alone, at a size where products of
matrices take most of the time.

Goals: int8 takes at most 0.30 of the bytes, and on a CPU with VNNI at least twice the images a second of
ONNX Runtime in fp32. Times are CPU time on one thread, medians of graphs that take turns.
Run: python benchmarks/production.py [--data SCENES] [--teacher RUN] [--students NAME=RUN ...]
"""

import argparse
import copy
import importlib
import importlib.util
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import RESULTS, in_turn, medians, record
from _runs import reciprocal_ranks
from compress import RUNS

from frugalclip.core.errors import ModelError
from frugalclip.data.manifest import Manifest
from frugalclip.exporting.graphs import image_graph
from frugalclip.exporting.reduced import Int8Graph
from frugalclip.interop.onnx_folder import GRAPHS, graph_runner
from frugalclip.models import Model, load, prepared_images
from frugalclip.sources.open import open_data
from frugalclip.towers.blocks import Block
from frugalclip.verbs.export import export
from frugalclip.verbs.train import train

STUDENTS = {
    "50 %, by rule": "50-inherited-affinity-0",
    "50 %, by gates": "50-auto-affinity-0",
    "25 %, by rule": "25-inherited-affinity-0",
    "25 %, by gates": "25-auto-affinity-0",
}
PRECISIONS = ("fp32", "int8")
BATCH, REPEATS = 64, 15
BYTES, RATE = 0.30, 2.0
WIDE, WIDE_BATCH = "width 384, drawn weights", 16
LARGE = 3000.0  # a feature of the broken model, in the teacher's


def main() -> None:
    """Export every model in both precisions and compare."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=RUNS / "scenes")
    parser.add_argument("--teacher", type=Path, default=RUNS / "scenes-runs" / "teacher-0")
    parser.add_argument(
        "--students",
        nargs="*",
        metavar="NAME=RUN",
        default=[f"{name}={RUNS / 'scenes-runs' / run}" for name, run in STUDENTS.items()],
    )
    parser.add_argument("--json", type=Path, default=RESULTS / "production.json")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    data = open_data(chosen.data)
    runs = {"teacher": str(chosen.teacher)} | dict(one.split("=", 1) for one in chosen.students)
    with tempfile.TemporaryDirectory() as place:
        line = Line(data, Path(place))
        rows = {name: line.exported(name, load(run)) for name, run in runs.items()}
        speeds = line.speeds(rows)
        for name, found in rows.items():
            for precision, one in found.items():
                one["images a second"] = speeds[name, precision]
                print(f"{name}, {precision}: {one}", flush=True)
        rows[WIDE] = line.wide()
        refusal = line.refusal(load(chosen.teacher))
    has_vnni = "vnni" in Path("/proc/cpuinfo").read_text()
    content = {"models": rows, "cpu has VNNI": has_vnni, "batch": BATCH, "refusal": refusal}
    record(chosen.json, content, _goals(rows, has_vnni=has_vnni))


class Line:
    """The way of a model to production.

    Args:
        data: scenes with the splits val and test.
        place: of the exports.
    """

    def __init__(self, data: Manifest, place: Path) -> None:
        self.place, self.test = place, data.where("split=test")
        self.validation = place / "validation.parquet"
        data.where("split=val").write(self.validation)

    def exported(self, name: str, model: Model) -> dict[str, dict[str, Any]]:
        """Write both precisions: what each weighs, and what it finds.

        A precision that the gate refuses has its message as `refused`.
        """
        found: dict[str, dict[str, Any]] = {}
        for precision in PRECISIONS:
            folder = self._folder(name, precision)
            try:
                written = export(model, to="onnx", out=folder, precision=precision, data=self.validation)
            except ModelError as error:
                found[precision] = {"refused": str(error)}
                continue
            found[precision] = {
                "parameters": sum(p.numel() for p in model.network.parameters()),
                "bytes": sum((folder / graph).stat().st_size for graph in GRAPHS.values()),
                "bytes of the image graph": (folder / GRAPHS["image"]).stat().st_size,
                "metric": 100 * float(reciprocal_ranks(load(f"onnx:{folder}"), self.test).mean()),
                "metric in torch": 100 * float(reciprocal_ranks(model, self.test).mean()),
            }
            if precision == "int8":
                found[precision]["layers in fp32"] = written.parity["int8"]["layers_in_fp32"]
        return found

    def speeds(self, rows: Mapping[str, Mapping[str, Any]]) -> dict[tuple[str, str], dict[str, float]]:
        """Images a second of every graph by program; torch stands beside fp32."""
        programs: dict[tuple[str, str, str], Callable[[], object]] = {}
        for name, found in rows.items():
            for precision, one in found.items():
                if "refused" not in one:
                    graph = self._folder(name, precision) / GRAPHS["image"]
                    pixels = self._pixels(load(f"onnx:{graph.parent}"))
                    run = graph_runner(graph)
                    programs[name, precision, "onnxruntime"] = lambda run=run, given=pixels: run(given)
                    if importlib.util.find_spec("openvino"):
                        programs[name, precision, "openvino"] = _openvino(graph, pixels)
        seconds = medians(in_turn({"|".join(key): run for key, run in programs.items()}, repeats=REPEATS))
        result: dict[tuple[str, str], dict[str, float]] = {}
        for name, precision, program in programs:
            rate = BATCH / seconds[f"{name}|{precision}|{program}"]
            result.setdefault((name, precision), {})[program] = round(rate, 1)
        return result

    def wide(self) -> dict[str, dict[str, Any]]:
        """Bytes and speed of an image tower that is four times as wide, calibrated on validation scenes."""
        run = self.place / "wide"
        words = [f"data={self.validation}", "data.validation=none", "epochs=null", "samples=16", "batch=16"]
        train("clip", [*words, "model.image.size=small", "model.image.resolution=64"], out=run)
        model = load(run)
        pixels = self._pixels(model)[:WIDE_BATCH]
        graphs = {precision: self.place / f"wide-{precision}.onnx" for precision in PRECISIONS}
        image_graph(model).save(str(graphs["fp32"]))
        whole = Int8Graph(graphs["fp32"], [pixels])
        graphs["int8"].write_bytes(whole.quantised(whole.layers))
        sessions = {precision: graph_runner(graph) for precision, graph in graphs.items()}
        runs = {name: lambda run=one: run(pixels) for name, one in sessions.items()}
        seconds = medians(in_turn(runs, repeats=5))
        return {
            name: {
                "bytes": graph.stat().st_size,
                "images a second": {"onnxruntime": round(WIDE_BATCH / seconds[name], 1)},
            }
            for name, graph in graphs.items()
        }

    def refusal(self, model: Model) -> str:
        """What the gate says of the broken model, after fp32 gave its vectors.

        Raises:
            SystemExit: if the gate let it pass.
        """
        broken = _with_large_features(model)
        export(broken, to="onnx", out=self._folder("broken", "fp32"), data=self.validation)
        try:
            export(
                broken,
                to="onnx",
                out=self._folder("broken", "int8"),
                precision="int8",
                data=self.validation,
            )
        except ModelError as error:
            print(f"the gate refused the broken model: {error}", flush=True)
            return str(error)
        raise SystemExit("the gate let a broken model pass")

    def _folder(self, name: str, precision: str) -> Path:
        return self.place / f"{name}-{precision}"

    def _pixels(self, model: Model) -> np.ndarray:
        rows = self.test.take(np.arange(BATCH))
        ((_, pixels),) = prepared_images(rows, model.preprocess, batch=BATCH, faults=[])
        return pixels.numpy()


def _openvino(graph: Path, pixels: np.ndarray) -> Callable[[], object]:
    core = importlib.import_module("openvino").Core()
    compiled = core.compile_model(
        core.read_model(graph), "CPU", {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    )
    request = compiled.create_infer_request()
    return lambda: request.infer([pixels])


def _with_large_features(model: Model) -> Model:
    """The same function: norms give some features larger, and the layer behind them reads those smaller."""
    broken = copy.deepcopy(model)
    with torch.no_grad():
        for block in broken.network.modules():
            if isinstance(block, Block):
                behind = (
                    (block.norm_attention, block.attention.qkv),
                    (
                        block.norm_feed_forward,
                        block.feed_forward.enter,
                    ),
                )
                for norm, layer in behind:
                    norm.weight[:4] *= LARGE
                    norm.bias[:4] *= LARGE
                    layer.weight[:, :4] /= LARGE
    return broken


def _goals(rows: Mapping[str, Any], *, has_vnni: bool) -> list[tuple[str, float, float, str]]:
    goals = []
    for name, found in rows.items():
        full, small = found["fp32"], found["int8"]
        if "refused" in small:
            continue
        goals.append((f"bytes of {name} in int8, of fp32", small["bytes"] / full["bytes"], BYTES, "at most"))
        if has_vnni:
            rates = (one["images a second"]["onnxruntime"] for one in (small, full))
            goals.append((f"rate of {name} in int8, of fp32", next(rates) / next(rates), RATE, "at least"))
    return goals


if __name__ == "__main__":
    main()
