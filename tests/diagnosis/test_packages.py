import pytest

from frugalclip.diagnosis.packages import extras, matching_torchvision


@pytest.mark.parametrize(
    ("torch", "torchvision"), [("2.6.0", "0.21.0"), ("2.14.1+cu130", "0.29.1"), ("3.0.0", None), ("", None)]
)
def test_released_pairs(torch: str, torchvision: str | None):
    assert matching_torchvision(torch) == torchvision


def test_extras_list_their_packages_with_the_least_version():
    known = extras()
    assert "dev" not in known
    assert ("onnx", None) in [(name, None) for name, _ in known["export"]]
    assert all(name for packages in known.values() for name, _ in packages)
