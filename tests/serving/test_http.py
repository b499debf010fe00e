import io
import json
import struct
import threading
import zlib
from urllib.parse import quote

import pytest
from PIL import Image
from starlette.testclient import TestClient

from frugalclip.data.image_faults import BadImage
from frugalclip.data.images import decode
from frugalclip.serving.http import create_app
from frugalclip.serving.limits import ServerLimits
from frugalclip.serving.served import ServedIndex
from frugalclip.serving.thumbnails import Thumbnails
from frugalclip.verbs.search_change import search_remove

TOKEN = "a-long-and-secret-token"


def client_of(served: ServedIndex, folder, **options) -> TestClient:
    app = create_app(served, thumbnails=Thumbnails(folder / "thumbnails"), **options)
    return TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False)


@pytest.fixture(scope="module")
def client(made, tmp_path_factory):
    return client_of(ServedIndex(made / "index"), tmp_path_factory.mktemp("http"))


def encoded(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG whose header claims 600 million pixels."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    head = struct.pack(">IIBBBBB", 30_000, 20_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000)))


RED = Image.new("RGB", (64, 64), "red")
GOOD = encoded(RED)
UPLOADS = {
    "plain": GOOD,
    "1x1": encoded(Image.new("RGB", (1, 1))),
    "16 bit": encoded(Image.new("I;16", (40, 30), 40_000)),
    "CMYK": encoded(RED.convert("CMYK"), "JPEG"),
    "animated": encoded(RED, "GIF", save_all=True, append_images=[Image.new("RGB", (64, 64), "blue")] * 3),
    "text": b"hello",
    "empty": b"",
    "cut": GOOD[:40],
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='http://127.0.0.1:1/'/></svg>",
    "bomb": bomb(),
}


def post(client: TestClient, data: bytes, **fields):
    return client.post("/api/search", files={"image": ("a.png", data, "image/png")}, data=fields)


def test_the_api_answers_what_the_index_answers(client, made):
    from frugalclip.serving.index import open_index

    index = open_index(made / "index")
    answer = client.get("/api/search", params={"q": "a red thing", "k": 3})
    assert answer.status_code == 200
    assert answer.json() == index.query("a red thing", k=3)
    first = answer.json()["hits"][0]["id"]
    like = client.get("/api/search", params={"like": first, "k": 3, "not": "gold", "max_false_hits": 1})
    assert like.json() == index.query(like=first, without="gold", k=3, max_false_hits=1)
    paged = client.get("/api/search", params={"q": "a red thing", "k": 2, "offset": 1}).json()
    assert paged["hits"] == index.query("a red thing", k=3)["hits"][1:]
    mixed = post(client, GOOD, q="a red thing", k=3, weight=0.3).json()
    assert mixed == index.query("a red thing", image=RED, weight=0.3, k=3)


@pytest.mark.parametrize("name", UPLOADS)
def test_an_upload_gets_the_verdict_of_the_data_reader_and_the_next_request_an_answer(client, name):
    try:
        decode(UPLOADS[name])
        expected = {200}
    except BadImage:
        expected = {400, 413, 422}
    answer = post(client, UPLOADS[name])
    assert answer.status_code in expected
    assert ("hits" in answer.json()) is (expected == {200})
    assert answer.status_code == 200 or answer.json()["error"]
    assert client.get("/healthz").status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/image/..%2f..%2f..%2fetc%2fpasswd",
        "/image/%2fetc%2fpasswd",
        "/image/../../etc/passwd",
        "/../../etc/passwd",
        "/image/%00",
        "/api/search",
        "/api/search?q=",
        "/api/search?q=a&k=-1",
        "/api/search?q=a&k=1000000000",
        "/api/search?q=a&k=x",
        "/api/search?q=a&where=%00",
        "/api/search?q=a&where=x=1",
        "/api/search?q=a&weight=nan",
        "/api/search?q=a&max_false_hits=nan",
        "/api/search?q=a&offset=99999999999999999999",
        "/api/search?like=..%2f..%2fetc%2fpasswd",
        "/api/search?q=" + "a" * 20_000,
        "/api/search?q=a&not=" + "a" * 10_001,
        "/image/red/40.png?size=0",
        "/nothing",
    ],
)
def test_hostile_addresses_are_refused_in_a_sentence(client, path):
    answer = client.get(path)
    assert 400 <= answer.status_code < 500
    assert answer.json()["error"]
    assert "root:" not in answer.text


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "http://127.0.0.1:1/x.png", "\u202e\x1b[2J", "' OR 1=1"]
)
def test_any_text_is_only_a_text(client, text):
    assert client.get("/api/search", params={"q": text}).status_code == 200
    assert client.get("/api/search", params={"like": text}).status_code == 400
    assert client.get(f"/image/{quote(text)}").status_code == 404


def test_a_wrong_form_is_refused(client):
    assert client.post("/api/search", files={"picture": ("a.png", GOOD)}).status_code == 422
    assert client.post("/api/search", data={"image": "http://127.0.0.1:1/x.png"}).status_code == 422
    assert client.post("/api/search", content=b"nonsense").status_code == 422
    broken = {"content-type": "multipart/form-data; boundary=x"}
    assert client.post("/api/search", content=b"--y\r\nnonsense", headers=broken).status_code in (400, 422)
    assert post(client, GOOD, k=-1).status_code == 422


def test_bodies_are_limited_before_they_are_parsed(made, tmp_path):
    limits = ServerLimits(body_bytes=10_000, seconds=0.3)
    client = client_of(ServedIndex(made / "index"), tmp_path, limits=limits)
    assert post(client, bytes(20_000)).status_code == 413

    def chunks(pieces: int):
        for _ in range(pieces):
            yield bytes(1000)

    assert client.post("/api/search", content=chunks(50)).status_code == 413
    assert client.post("/api/search", content=b"x", headers={"content-length": "-5"}).status_code == 413
    assert post(client, GOOD).status_code == 200


def test_who_has_no_token_sends_little(made, tmp_path):
    client = client_of(ServedIndex(made / "index"), tmp_path, token=TOKEN)
    assert client.post("/login", data={"token": "x" * 20_000}).status_code == 413
    bearer = {"authorization": f"Bearer {TOKEN}"}
    answer = client.post("/api/search", files={"image": ("a.bmp", encoded(RED, "BMP"))}, headers=bearer)
    assert len(encoded(RED, "BMP")) > 10_000 and answer.status_code == 200


def test_a_slow_body_is_given_up(made, tmp_path):
    import asyncio

    app = create_app(ServedIndex(made / "index"), limits=ServerLimits(seconds=0.1))
    sent = []

    async def receive():
        await asyncio.sleep(60)

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/search", "headers": [], "query_string": b""}
    asyncio.run(app(scope, receive, send))
    assert sent[0]["status"] == 408
    assert "did not arrive" in json.loads(sent[1]["body"])["error"]


def test_images_are_given_by_id_and_thumbnails_are_made_once(client, made, monkeypatch):
    id = client.get("/api/search", params={"q": "a red thing", "k": 1}).json()["hits"][0]["id"]
    whole = client.get(f"/image/{id}")
    assert whole.status_code == 200
    assert whole.headers["content-type"] == "image/png"
    assert whole.headers["x-content-type-options"] == "nosniff"
    assert decode(whole.content).size == (20, 30)
    small = client.get(f"/image/{id}?size=100")
    assert decode(small.content).size == (20, 30)
    monkeypatch.setattr("frugalclip.serving.thumbnails.decode", None)
    assert client.get(f"/image/{id}?size=100").content == small.content


def test_the_page_loads_nothing_from_elsewhere(client):
    page = client.get("/")
    assert page.status_code == 200
    assert "<html" in page.text.lower()
    assert "http://" not in page.text
    assert "https://" not in page.text
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "connect-src 'self'" in policy
    assert "unsafe" not in policy
    assert client.get("/docs").status_code == 404
    described = client.get("/openapi.json").json()
    assert {"/api/search", "/image/{id}", "/healthz"} <= set(described["paths"])
    assert set(described["paths"]["/api/search"]) == {"get", "post"}


def test_filters_come_from_the_fields(client):
    about = client.get("/api/index").json()
    (field,) = [one for one in about["fields"] if one["name"] == "label"]
    assert {value["value"] for value in field["values"]} >= {"red", "gold"}
    assert about["reads_text"]


def test_a_token_is_wanted_everywhere_but_for_health(made, tmp_path):
    client = client_of(ServedIndex(made / "index"), tmp_path, token=TOKEN)
    for path in ("/", "/api/index", "/api/search?q=a", "/image/x", "/openapi.json"):
        assert client.get(path).status_code == 401
        assert client.get(path, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/healthz").status_code == 200
    assert client.get("/api/index", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 200
    assert client.post("/login", data={"token": "wrong"}).status_code == 401
    assert client.post("/login", data={"token": TOKEN}).status_code == 200  # after the redirect
    assert client.get("/api/index").status_code == 200


def test_other_names_of_this_machine_are_refused(made, tmp_path):
    client = client_of(ServedIndex(made / "index"), tmp_path, hosts=("127.0.0.1", "localhost"))
    assert client.get("/api/index").status_code == 200
    assert client.get("/api/index", headers={"host": "localhost:8000"}).status_code == 200
    assert client.get("/api/index", headers={"host": "evil.example:8000"}).status_code == 421


def test_too_many_requests_at_once_are_told_to_come_back(made, tmp_path):
    client = client_of(ServedIndex(made / "index"), tmp_path, limits=ServerLimits(at_once=0))
    answer = client.get("/api/index")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_health_fails_with_the_model(made, tmp_path, monkeypatch, capsys):
    served = ServedIndex(made / "index")
    client = client_of(served, tmp_path)
    monkeypatch.setattr(served.index.encoder.model, "encode_text", lambda texts: 1 / 0)
    assert client.get("/healthz").status_code == 503


def test_a_new_index_is_taken_up_while_requests_run(place):
    served, lines = ServedIndex(place / "index"), []
    served.note = lines.append
    client = client_of(served, place)
    first = client.get("/api/search", params={"q": "a red thing", "k": 1}).json()
    codes: list[int] = []
    stop = threading.Event()

    def asks() -> None:
        while not stop.is_set():
            codes.append(client.get("/api/search", params={"q": "a red thing", "k": 2}).status_code)

    thread = threading.Thread(target=asks)
    thread.start()
    search_remove(place / "index", [first["hits"][0]["id"]])
    assert served.refresh()
    assert not served.refresh()
    stop.set()
    thread.join()
    assert set(codes) == {200}
    after = client.get("/api/search", params={"q": "a red thing", "k": 1}).json()
    assert after["index"]["rows"] == first["index"]["rows"] - 1
    assert after["hits"][0]["id"] != first["hits"][0]["id"]
    head = place / "index" / "index.json"
    head.write_text("{}")
    assert not served.refresh()
    assert "the old one answers" in lines[-1]
    assert client.get("/api/search", params={"q": "a red thing"}).status_code == 200
