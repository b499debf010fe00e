"""The page in Chromium: search, filter, drop a picture, more like this, errors, at two widths."""

import os
import socket
import threading
import time
from pathlib import Path

import pytest
import uvicorn

from frugalclip.serving.http import create_app
from frugalclip.serving.served import ServedIndex
from frugalclip.serving.thumbnails import Thumbnails

from .chromium import PROGRAM, Browser

pytestmark = pytest.mark.e2e
HITS = "document.querySelectorAll('.hit').length"
SHOTS = os.environ.get("FRUGALCLIP_SCREENSHOTS")  # a folder for people who want to look at the page


@pytest.fixture(scope="module")
def address(made, tmp_path_factory):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    app = create_app(
        ServedIndex(made / "index"), thumbnails=Thumbnails(tmp_path_factory.mktemp("thumbnails"))
    )
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/"
    server.should_exit = True
    thread.join(20)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    if PROGRAM is None:
        pytest.fail("there is no chromium; install Debian's with: apt-get install chromium")
    found = Browser(tmp_path_factory.mktemp("profile"))
    yield found
    found.close()


def search(browser: Browser, text: str) -> None:
    browser.run(f"at('text').value = {text!r}; at('form').requestSubmit(); true")


def shoot(browser: Browser, name: str) -> None:
    if SHOTS:
        browser.screenshot(Path(SHOTS) / f"{name}.png")


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_does_what_a_user_does(browser, address, made, width):
    browser.open(address, width=width)
    browser.wait("document.querySelectorAll('#fields fieldset').length")
    assert "Type what" in browser.run("at('status').textContent")
    search(browser, "a red thing")
    assert browser.wait(HITS) == 24
    assert "Hits 1 to 24 among 32 pictures" in browser.run("at('status').textContent")
    assert browser.run("[...document.images].filter(i => i.src && !i.hidden).every(i => i.alt || i.id)")
    assert browser.run("document.documentElement.scrollWidth") <= width
    browser.wait("[...document.querySelectorAll('.hit img')].slice(0, 4).every(i => i.naturalWidth > 0)")
    shoot(browser, f"hits-{width}")
    browser.run("at('next').click(); true")
    browser.wait(f"{HITS} === 8")
    browser.run("document.querySelector('#fields input[value=gold]').click(); true")
    browser.wait(f"{HITS} === 4")
    assert browser.run("[...document.querySelectorAll('.hit p')].every(p => p.textContent === 'gold')")
    browser.run("at('options').open = true; true")
    shoot(browser, f"filtered-{width}")
    browser.run("at('clear').click(); true")
    browser.wait(f"{HITS} === 24")
    first = browser.run("document.querySelector('.hit').dataset.id")
    browser.run("document.querySelector('.hit button').click(); true")
    browser.wait("!at('example').hidden")
    browser.wait(f"{HITS} === 24 && document.querySelector('.hit').dataset.id !== {first!r}")
    browser.choose_file("#file", made / "data" / "red" / "80.png")
    browser.wait("at('example-name').textContent === '80.png'")
    browser.wait("document.querySelector('.hit')?.dataset.id.includes('red')")
    shoot(browser, f"picture-{width}")
    search(browser, "")
    browser.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'})); true")
    browser.wait(f"{HITS} === 0")


def test_errors_are_sentences_and_keys_move(browser, address, made, tmp_path):
    browser.open(address, width=1280)
    browser.wait("document.querySelectorAll('#fields fieldset').length")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    browser.choose_file("#file", broken)
    sentence = browser.wait("!at('error').hidden && at('error').textContent")
    assert "not an image" in sentence
    shoot(browser, "error")
    browser.run("document.dispatchEvent(new KeyboardEvent('keydown', {key: 'Escape'})); true")
    search(browser, "a red thing")
    browser.wait(HITS)
    browser.run("at('text').blur(); true")
    for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
        browser.run(f"document.dispatchEvent(new KeyboardEvent('keydown', {{key: {key!r}}})); true")
    items = "[...document.querySelectorAll('.hit a')].indexOf(document.activeElement)"
    assert browser.run(items) == 0
    browser.run(
        "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: 'm', bubbles: true})); true"
    )
    browser.wait("at('example-name').textContent.startsWith('like: ')")
    assert browser.run("location.search").startswith("?like=")


def test_dark_mode_has_its_own_colours(browser, address):
    colours = []
    for scheme in ("light", "dark"):
        browser.send(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )
        browser.open(address + "?q=a+gold+thing", width=1280)
        browser.wait(HITS)
        colours.append(browser.run("getComputedStyle(document.body).backgroundColor"))
        shoot(browser, scheme)
    assert colours[0] != colours[1]
