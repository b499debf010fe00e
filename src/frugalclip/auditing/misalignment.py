"""How often a text and its image share no concept.

Source: arXiv 2404.04125 (`misalignment_degree_quantification.py`). Only samples with a concept in the text
and one in the image count. The authors' script matches names of several words against
single words for some corpora, so their rows cannot be compared; here all follow one rule.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Misalignment:
    """Samples with concepts in the text, in the image, in both, and those that share none."""

    texts: int
    images: int
    both: int
    misaligned: int
    samples: int

    @property
    def of_extracted(self) -> float:
        """The published degree: a share of the larger of the two numbers of samples with a concept."""
        return self.misaligned / max(self.texts, self.images, 1)

    @property
    def of_all(self) -> float:
        """A share of the samples of the data set."""
        return self.misaligned / max(self.samples, 1)

    @property
    def of_both(self) -> float:
        """A share of the samples with a concept on either side: those that could agree."""
        return self.misaligned / max(self.both, 1)


def misalignment(
    texts: np.ndarray, images: np.ndarray, together: np.ndarray, *, samples: int
) -> Misalignment:
    """Count samples whose two sets of concepts are disjoint.

    Args:
        texts: (samples,) bool or counts, concepts in the text of each.
        images: (samples,) likewise in the image.
        together: (samples,) likewise in both.
        samples: of the data set; more than the arrays have where the others have no concept.
    """
    in_texts, in_images = texts > 0, images > 0
    both = in_texts & in_images
    apart = both & ~(together > 0)
    counts = [int(mask.sum()) for mask in (in_texts, in_images, both, apart)]
    return Misalignment(counts[0], counts[1], counts[2], counts[3], samples)
