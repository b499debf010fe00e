"""pyarrow makes most of its functions at run time and ships no types; to the checker it is Any."""

from typing import Any

def __getattr__(name: str) -> Any: ...
