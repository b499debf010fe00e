"""The fixture of small images and files, shared with the tests of data."""

from ..data.conftest import make  # noqa: F401
