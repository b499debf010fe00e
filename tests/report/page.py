"""A report parsed as HTML."""

from html.parser import HTMLParser

from frugalclip.core.records import RunDirectory
from frugalclip.report.gallery import Gallery
from frugalclip.report.run import write_run_report

VOID = {"meta", "img", "br", "link", "input", "hr", "circle", "line", "rect", "path", "polygon", "polyline"}


class Page(HTMLParser):
    """Elements with their attributes, and the text; open elements have to be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if "script" not in self.open and "style" not in self.open:
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).replace("\xa0", " ").split())

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def report(run: RunDirectory, gallery: Gallery | None = None) -> Page:
    path = write_run_report(run, gallery=gallery)
    assert path == run.path / "report.html"
    return Page(path.read_text(encoding="utf-8"))
