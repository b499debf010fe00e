"""Fuzz every reader: `python tests/fuzz/run.py --cases 20000 --seed 0 --out fuzz.json`.

Cases run in worker processes, so that one that dies is a record and not the end. Stopped and started again,
it goes on behind the last case. The record holds counts, and every case that was not taken as it should, with
its seed; `--case SEED/NUMBER` runs one of them here.
"""

import argparse
import hashlib
import importlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

CHUNK = 500  # cases of a worker process
PATIENCE = 60  # seconds without a word from a worker


def main() -> int:
    """Run what the command line says; 1 if a case was not taken as it should."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("fuzz.json"))
    parser.add_argument("--only", help="name of the only target")
    parser.add_argument("--case", help="SEED/NUMBER of one case to run here")
    parser.add_argument("--worker", nargs=2, type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    made_by = hashlib.sha256(Path(__file__).with_name("targets.py").read_bytes()).hexdigest()[:8]
    root = Path(tempfile.gettempdir()) / f"frugalclip-fuzz-{made_by}"
    if arguments.case:
        seed, number = map(int, arguments.case.split("/"))
        print(json.dumps(_fuzzer(root).case(seed, number, only=arguments.only).as_json(), indent=2))
        return 0
    if arguments.worker:
        _work(arguments, root)
        return 0
    return _drive(arguments, root)


def _fuzzer(root: Path) -> Any:
    cases: Any = importlib.import_module("tests.fuzz.cases")
    return cases.Fuzzer(root / "whole", Path(tempfile.mkdtemp(prefix="fuzz-")))


def _work(arguments: argparse.Namespace, root: Path) -> None:
    fuzzer = _fuzzer(root)
    for number in range(*arguments.worker):
        print(json.dumps({"begin": number}), flush=True)
        outcome = fuzzer.case(arguments.seed, number, only=arguments.only)
        print(json.dumps({"number": number, **outcome.as_json()}), flush=True)


def _drive(arguments: argparse.Namespace, root: Path) -> int:
    lines = arguments.out.with_suffix(".jsonl")
    done = [json.loads(line) for line in lines.read_text().splitlines()] if lines.is_file() else []
    _fuzzer(root)  # writes the untouched files once
    begun, start = time.monotonic(), len(done)
    with lines.open("a") as record:
        while len(done) < arguments.cases:
            for outcome in _chunk(arguments, len(done), min(len(done) + CHUNK, arguments.cases)):
                done.append(outcome)
                record.write(json.dumps(outcome) + "\n")
                record.flush()
    kinds = Counter(outcome["kind"] for outcome in done)
    bad = [one for one in done if one["kind"] not in ("refused", "understood")]
    by_target: dict[str, Counter[str]] = {}
    for one in done:
        by_target.setdefault(one["target"], Counter())[one["kind"]] += 1
    summary = {
        "seed": arguments.seed,
        "cases": len(done),
        "kinds": dict(kinds),
        "targets": {name: dict(kinds) for name, kinds in sorted(by_target.items())},
        "seconds": round(time.monotonic() - begun) if not start else None,
        "bad": bad,
    }
    arguments.out.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{len(done):,} cases: {dict(kinds)}; {len(bad)} not taken as they should; {arguments.out}")
    return 1 if bad else 0


def _chunk(arguments: argparse.Namespace, start: int, stop: int) -> list[dict[str, Any]]:
    """Outcomes of some cases, up to the first that kills or stops its worker."""
    command = [sys.executable, __file__, "--seed", str(arguments.seed), "--worker", str(start), str(stop)]
    command += ["--only", arguments.only] if arguments.only else []
    found: list[dict[str, Any]] = []
    begun = start
    with tempfile.TemporaryFile("w+") as output, tempfile.TemporaryFile("w+") as errors:
        worker = subprocess.Popen(command, stdout=output, stderr=errors, text=True)
        size, quiet = 0, time.monotonic()
        while worker.poll() is None:
            time.sleep(0.2)
            grown = output.seek(0, 2)
            if grown != size:
                size, quiet = grown, time.monotonic()
            elif time.monotonic() - quiet > PATIENCE:
                worker.kill()
                worker.wait()
        output.seek(0)
        for line in output.read().splitlines():
            content = json.loads(line) if line.startswith("{") and line.endswith("}") else {}
            begun = content.get("begin", begun)
            if "kind" in content:
                found.append(content)
        if worker.returncode:
            errors.seek(0)
            kind = "hang" if worker.returncode == -9 else "crash"
            detail = f"the process ended with {worker.returncode}: {errors.read()[-800:]}"
            case = {"case": f"{arguments.seed}/{begun}", "target": "?", "file": "?", "mutation": "?"}
            found.append({"number": begun, **case, "kind": kind, "detail": detail})
    return found


if __name__ == "__main__":
    sys.exit(main())
