from frugalclip.backbones.packages import PACKAGES
from frugalclip.diagnosis import models


def test_every_packaged_backbone_names_what_reads_it():
    assert set(models.PACKAGE_READERS) == set(PACKAGES) - {"e5"}  # which brings its own engine
