"""An exported folder as our own importer reads it, where the library itself is not installed."""

from frugalclip.exporting.base import ReadBack
from frugalclip.models import load


def own_reader(source: str) -> ReadBack:
    """A folder read by `frugalclip.load`.

    Args:
        source: such as `hf:DIR`.
    """
    model = load(source)
    library = "frugalclip's own importer (the library is not installed)"
    return ReadBack(library, model.encode_image, model.encode_text)
