"""Settings of the documentation site. `make docs` builds it; nothing is downloaded."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project = "frugalclip"
author = "the frugalclip authors"
html_title = "frugalclip"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
exclude_patterns = ["decisions/0000-template.md"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 4
myst_url_schemes = ("http", "https", "mailto")
suppress_warnings = ["myst.header"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_theme_options = {"source_repository": "", "sidebar_hide_name": False}
html_copy_source = False
html_show_sourcelink = False
html_show_copyright = False
