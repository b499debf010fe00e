"""Vision-language pre-training for people who do not have 400 million pairs.

The verbs of the command line as functions, loaded when first used: `import frugalclip` alone loads no torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from frugalclip.models import load
    from frugalclip.verbs.advise import advise
    from frugalclip.verbs.compare import compare
    from frugalclip.verbs.compress import compress
    from frugalclip.verbs.curate import curate
    from frugalclip.verbs.demo import demo
    from frugalclip.verbs.doctor import doctor
    from frugalclip.verbs.embed import embed
    from frugalclip.verbs.evaluate import evaluate
    from frugalclip.verbs.export import export
    from frugalclip.verbs.finetune import finetune
    from frugalclip.verbs.import_model import import_model
    from frugalclip.verbs.plan import plan
    from frugalclip.verbs.recipes import recipes
    from frugalclip.verbs.search import search
    from frugalclip.verbs.train import train

__version__ = "0.1.0"
__all__ = [
    "__version__",
    "advise",
    "compare",
    "compress",
    "curate",
    "demo",
    "doctor",
    "embed",
    "evaluate",
    "export",
    "finetune",
    "import_model",
    "load",
    "plan",
    "recipes",
    "search",
    "train",
]

_HOMES = {"load": "frugalclip.models"}  # a name that is not here lives in the verb of its name


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'frugalclip' has no attribute '{name}'")
    value = getattr(importlib.import_module(_HOMES.get(name, f"frugalclip.verbs.{name}")), name)
    globals()[name] = value  # the next look-up does not come here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
