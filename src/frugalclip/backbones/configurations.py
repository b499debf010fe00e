"""Configurations of transformers, from which a model is built without its weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from frugalclip.backbones.base import Side
from frugalclip.backbones.packages import PACKAGES, path_of
from frugalclip.core.errors import ModelError
from frugalclip.interop.source import ModelSource


def transformers_config(transformers: Any, source: ModelSource) -> Any:
    """The configuration of a folder or of a packaged part, which need not be installed.

    Args:
        transformers: the library.
        source: `hf:DIR`, a path or `package:NAME`.

    Raises:
        ModelError: where the source has none.
    """
    if source.scheme == "package":
        return transformers.AutoConfig.for_model(**PACKAGES[source.rest].config)
    folder = path_of(source)
    if not (folder / "config.json").is_file():
        raise ModelError(
            f"{folder} has no config.json, and a GGUF file is converted at the first run only; give a "
            "Hugging Face folder to count its parameters now."
        )
    return transformers.AutoConfig.from_pretrained(folder, local_files_only=True)


@contextmanager
def valid_config(source: ModelSource, side: Side) -> Iterator[None]:
    """Turn what transformers raises for a configuration that it cannot use into one sentence.

    Raises:
        ModelError: in place of the errors of transformers.
    """
    try:
        yield
    except ModelError:
        raise
    except Exception as error:  # the checks of a configuration raise classes of their own
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"the configuration of {source} describes no model that transformers knows ({reason}); "
            f"check model.{side}.from."
        ) from error
