"""The baseline of a fit without learned features: texts mapped to shapes and colours in closed form.

It tells what training adds to the fit that closes a from-scratch run (`compression.closing_fit`). Images are
whitened alike. Texts are names as words; the closing fit has captions and keywords as tokens.
"""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

from frugalclip.data.words import normalise
from frugalclip.evaluation.ranking import Scores, cosine_scores
from frugalclip.evaluation.word_similarity import WordSimilarity
from frugalclip.functional import unit
from frugalclip.towers.heads.ridge import RidgeConfig
from frugalclip.towers.heads.whitening import WhiteningConfig

DIM = 512  # directions of the descriptors, at most
POWER = 0.25  # of the whitening, as in the closing fit
RIDGE = 1.0
MOST_WORDS = 4096  # the most frequent; the regression is solved in as many dimensions


class DescriptorFit:
    """Ridge regression from weighted words to whitened features of the training images.

    Args:
        features: (training, width) of the images.
        names: (training,) texts of each.
    """

    def __init__(self, features: Tensor, names: Sequence[Sequence[str]]) -> None:
        self.images = WhiteningConfig(kind="whitening", power=POWER).build(width=features.shape[1], dim=DIM)
        self.images.fit_to(features)
        placed = self.images(features)  # (training, dim)
        images_of: dict[str, list[int]] = defaultdict(list)
        for row, texts in enumerate(names):
            for text in dict.fromkeys(map(normalise, texts)):
                images_of[text].append(row)
        self.similarity = WordSimilarity(images_of)
        frequent = [word for word, _ in self.similarity.found_in.most_common(MOST_WORDS)]
        self.columns = {word: i for i, word in enumerate(sorted(frequent))}
        self.texts = RidgeConfig(ridge=RIDGE).build(width=len(self.columns), dim=DIM)
        self.texts.fit_to(
            self._words(list(images_of)),
            torch.stack([placed[rows].mean(dim=0) for rows in images_of.values()]),
            torch.tensor([float(len(rows)) for rows in images_of.values()]),
        )

    def scores(self, features: Tensor, candidates: Sequence[Sequence[str]]) -> Scores:
        """Cosines of images with candidates.

        Args:
            features: (images, width).
            candidates: texts of each candidate; their embeddings are averaged.

        Returns:
            A function that gives (rows, candidates) for some of the images.
        """
        owners = torch.tensor([i for i, texts in enumerate(candidates) for _ in texts], dtype=torch.int64)
        texts = unit(self.texts(self._words([text for one in candidates for text in one])))
        sums = torch.zeros(len(candidates), DIM).index_add_(0, owners, texts)
        return cosine_scores(unit(self.images(features)), unit(sums))

    def _words(self, texts: Sequence[str]) -> Tensor:
        """(texts, words) weighted counts of length one."""
        return self.similarity.vectors(texts, self.columns).to_dense()
