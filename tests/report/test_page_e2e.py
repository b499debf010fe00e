"""The page in a real browser: `make test-e2e` runs this; it needs Chromium and fails without one."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from PIL import Image

from frugalclip.report.gallery import ClassResult, Example, Gallery, Hit, thumbnail
from frugalclip.report.run import write_run_report

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))),
        None,
    )
    assert found, (
        "no Chromium was found, and this test renders the page in one; "
        "install it with: apt-get install -y chromium"
    )
    return found


@pytest.fixture
def page(make_run, rows, evaluation, hostile) -> Path:
    thumbnails = tuple(
        thumbnail(Image.new("RGB", (90, 60), (20 * i, 90, 200)), text) for i, text in enumerate(hostile)
    )
    examples = tuple(
        Example(p.text, tuple(Hit(0.5, i == 0, q.text, q) for i, q in enumerate(thumbnails[:5])), 2.0, 6, p)
        for p in thumbnails
    )
    classes = tuple(ClassResult(p.text, 50.0, 2, p.text, thumbnails[:4]) for p in thumbnails)
    gallery = Gallery(
        examples, examples, classes, classes, {"data": hostile[0]}, thumbnails, "Drawn at random."
    )
    evaluation["per_class"] = [{"name": text, "samples": 1, "top1": 0.0} for text in hostile[:5]]
    return write_run_report(make_run(rows=rows, evaluations=[evaluation]), gallery=gallery)


def opened(browser: str, page: Path, profile: Path) -> tuple[str, str]:
    """(the document after its script has run, what the browser logged)."""
    line = [
        browser,
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--allow-file-access-from-files",
        "--virtual-time-budget=3000",
    ]
    line += [f"--user-data-dir={profile}", "--enable-logging=stderr", "--dump-dom", page.as_uri()]
    done = subprocess.run(line, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout, done.stderr


def test_the_script_runs_and_the_captions_do_not(browser, page, tmp_path):
    document, log = opened(browser, page, tmp_path / "profile")
    assert "<title>first: run report</title>" in document  # a caption that ran would have renamed it
    assert 'class="tip"' in document
    assert re.search(r"<svg[^>]*data-hover[^>]*tabindex=\"0\"", document)
    assert "CONSOLE" not in log, log


def test_a_click_shows_an_image_in_full_size_with_its_caption(browser, page, tmp_path):
    frame = tmp_path / "frame.html"
    act = (
        "const d = f.contentDocument; d.querySelector('.tile').click();"
        "const shown = d.querySelector('dialog');"
        "document.title = shown.open + ' ' + shown.querySelector('img').naturalWidth + ' ' +"
        "(shown.querySelector('p').textContent === d.querySelector('.tile img').alt)"
    )
    frame.write_text(
        f'<iframe id="f" src="{page.as_uri()}" onload="setTimeout(() => {{ {act} }}, 500)"></iframe>'
    )
    document, _ = opened(browser, frame, tmp_path / "profile")
    assert "<title>true 90 true</title>" in document


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_is_as_wide_as_the_window(browser, page, tmp_path, width):
    frame = tmp_path / "frame.html"
    measure = (
        "const d = f.contentDocument; d.querySelectorAll('details').forEach(e => e.open = true);"
        "document.title = d.documentElement.scrollWidth + ' ' + "
        "f.contentWindow.getComputedStyle(d.querySelector('.narrow')).display"
    )
    frame.write_text(
        f'<iframe id="f" src="{page.as_uri()}" style="border:0;width:{width}px;height:3000px" '
        f'onload="{measure}"></iframe>'
    )
    document, _ = opened(browser, frame, tmp_path / "profile")
    assert f"<title>{width} {'block' if width < 600 else 'none'}</title>" in document
