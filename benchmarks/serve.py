"""Claim: a server of 100,000 vectors answers 50 clients at once without a failed request, and stays up.

Clients ask in words; p50, p95 and queries a second are of all of them together. Then hostile uploads: each
gets the data reader's verdict, 200 or 4xx, the request after it 200, and memory comes back within 50 MB. So
do a slow body, a wrong field, and paths and HTML in every parameter. The index holds random vectors on copies
of the sample's rows, since only the model and the number of rows cost time.
Run: python benchmarks/serve.py [--model runs/demo] [--rows 100000] [--clients 50] [--requests 2000]
"""

import argparse
import io
import os
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
from _common import RESULTS, record, resident
from PIL import Image
from torch import Tensor

from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.models import Model, load
from frugalclip.serving.building import BuildOptions, build_index
from frugalclip.serving.layout import IndexedSource
from frugalclip.sources.open import open_data

FORM = "application/x-www-form-urlencoded"
QUERIES = ("red fruit", "smiling face", "musical instrument", "a car at night", "two people")


def large_index(path: Path, model: Model, rows: int) -> None:
    """An index of many rows: those of the sample, repeated under other ids, with random vectors."""
    sample = open_data("sample")
    chosen = np.arange(rows) % len(sample)
    table = sample.take(chosen).table
    table = table.set_column(0, "id", pa.array([f"row-{i}" for i in range(rows)]))
    random, plain = np.random.default_rng(0), model.encode_image

    def drawn(images: Tensor, **options: object) -> Tensor:
        found = plain(images[:1])
        noise = random.standard_normal((len(images), found.shape[1]), dtype=np.float32)
        return found.new_tensor(noise / np.linalg.norm(noise, axis=1, keepdims=True))

    model.encode_image = drawn  # type: ignore[method-assign]  # encoding 100,000 images is not measured here
    source, options = IndexedSource(path="sample"), BuildOptions()
    build_index(
        path, model, Manifest(table, sample.root, "rows"), source=source, named="bench", options=options
    )


def asked(address: str, data: bytes | None = None, kind: str = "") -> int:
    """The status of a request."""
    request = urllib.request.Request(address, data=data, headers={"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            answer.read()
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def load_of(base: str, *, clients: int, requests: int) -> dict[str, float]:
    """Milliseconds and failures of clients that ask one after another, all at once."""
    seconds: list[float] = []
    failed: list[int] = []

    def client(number: int) -> None:
        for turn in range(requests // clients):
            text = f"{QUERIES[(number + turn) % len(QUERIES)]} {turn}"
            begun = time.perf_counter()
            status = asked(f"{base}/api/search?{urllib.parse.urlencode({'q': text, 'k': 10})}")
            seconds.append(time.perf_counter() - begun)
            failed.extend([status] if status != 200 else [])

    threads = [threading.Thread(target=client, args=(i,)) for i in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    spent = time.perf_counter() - begun
    ordered = sorted(1000 * one for one in seconds)
    return {
        "p50": statistics.median(ordered),
        "p95": ordered[int(0.95 * len(ordered))],
        "queries_a_second": len(seconds) / spent,
        "failed": len(failed),
    }


def uploads() -> dict[str, bytes]:
    """Bytes that are odd, broken or hostile."""

    def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
        buffer = io.BytesIO()
        image.save(buffer, kind, **options)
        return buffer.getvalue()

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    red = Image.new("RGB", (64, 64), "red")
    head = struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))
    return {
        "1x1": encoded(Image.new("RGB", (1, 1))),
        "16 bit": encoded(Image.new("I;16", (40, 30), 40_000)),
        "CMYK": encoded(red.convert("CMYK"), "JPEG"),
        "animated": encoded(red, "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64))]),
        "8000 x 8000": encoded(Image.new("RGB", (8000, 8000), "red")),
        "truncated": encoded(red)[:60],
        "bomb of 600 megapixels": bomb,
        "no image": b"hello",
        "100 MB": bytes(100_000_000),
    }


def posted(base: str, content: bytes) -> int:
    """The status of an upload; a connection that is closed while the body is sent counts as refused."""
    edge = "edge7"
    start = f'--{edge}\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'.encode()
    try:
        body = start + content + f"\r\n--{edge}--\r\n".encode()
        return asked(f"{base}/api/search", body, f"multipart/form-data; boundary={edge}")
    except (urllib.error.URLError, ConnectionError):
        return 413


def verdict(content: bytes) -> int:
    """200 where the data reader takes an image, else 400."""
    try:
        decode(content)
    except BadImage:
        return 400
    return 200


def slow(port: int) -> int:
    """The status of a body that comes a byte a second."""
    head = "POST /api/search HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9999\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
        connection.settimeout(1)
        for _ in range(60):
            try:
                connection.sendall(b"-")
                return int(connection.recv(99).split()[1])
            except TimeoutError:
                continue
            except OSError:  # closed without a word
                break
    return 500


def odd_requests(base: str, port: int) -> dict[str, int]:
    """Statuses of requests that no page sends; texts are only texts, so `q` may hold any."""
    texts = ("../../etc/passwd", "<script>alert(1)</script>", "\0", "http://127.0.0.1:1/x.png")
    found = {"slow body": slow(port), "wrong field": asked(f"{base}/api/search", b"image=x", FORM)}
    for name in ("k", "where", "like", "weight", "offset", "max_false_hits"):
        for text in texts:
            query = urllib.parse.urlencode({"q": "a", name: text} if name != "like" else {name: text})
            found[f"{name}={text}"] = asked(f"{base}/api/search?{query}")
    for text in texts:
        found[f"image {text}"] = asked(f"{base}/image/{urllib.parse.quote(text, safe='')}")
        found[f"size={text}"] = asked(f"{base}/image/row-0?size={urllib.parse.quote(text, safe='')}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="runs/demo")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=50)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--json", type=Path, default=RESULTS / "serve.json")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        large_index(Path(folder) / "index", load(chosen.model), chosen.rows)
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        command = [sys.executable, "-m", "frugalclip", "serve", f"{folder}/index", "--port", str(port)]
        server, base = subprocess.Popen(command), f"http://127.0.0.1:{port}"
        try:
            while True:
                time.sleep(0.5)
                try:
                    if asked(f"{base}/healthz") == 200:
                        break
                except urllib.error.URLError:
                    assert server.poll() is None, "the server has ended"
            rates = load_of(base, clients=chosen.clients, requests=chosen.requests)
            files = uploads()
            posted(base, files["8000 x 8000"])  # the first one fills allocators
            before = resident(process=server.pid)
            codes = {name: (posted(base, data), asked(f"{base}/healthz")) for name, data in files.items()}
            odd = odd_requests(base, port) | {"a request after them": asked(f"{base}/healthz")}
            time.sleep(2)
            grown = (resident(process=server.pid) - before) / 1e6
        finally:
            server.terminate()
            server.wait(30)
    refused = [code for code, _ in codes.values()]
    small = {name: data for name, data in files.items() if name != "100 MB"}  # refused for its size
    other = [name for name, data in small.items() if (codes[name][0] == 200) != (verdict(data) == 200)]
    well = odd.pop("a request after them") == 200
    goals = [
        ("failed requests", rates["failed"], 0, "at most"),
        ("uploads with a 5xx", sum(code >= 500 for code in refused), 0, "at most"),
        (
            "uploads after which the server was not well",
            sum(after != 200 for _, after in codes.values()),
            0,
            "at most",
        ),
        ("uploads with another verdict than the data reader's", len(other), 0, "at most"),
        (
            "odd requests without a 4xx",
            sum(not 400 <= code < 500 for code in odd.values()) + (not well),
            0,
            "at most",
        ),
        ("MB of memory that stay after them", grown, 50, "at most"),
    ]
    content = {"rows": chosen.rows, "clients": chosen.clients, **rates, "uploads": codes, "odd": odd}
    record(chosen.json, content | {"load": os.getloadavg()[0]}, goals)


if __name__ == "__main__":
    main()
