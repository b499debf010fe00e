import numpy as np
import torch

from frugalclip.curation.codes import code_rows, code_vectors, fit_codebook
from frugalclip.curation.patches import DescriptorPatches

from .conftest import MakeRows, drawn_thumbnails


def test_every_patch_has_the_nearest_code_of_a_codebook_that_the_seed_decides(make_rows: MakeRows):
    rows, source = make_rows(["a"] * 12, thumbnail=drawn_thumbnails(12)), DescriptorPatches()
    codebook = fit_codebook(source, rows, 8)
    assert codebook.shape == (8, 39)
    assert torch.equal(codebook, fit_codebook(source, rows, 8))
    codes = code_rows(source, rows, codebook)
    assert codes.values.shape == (12, 49) and codes.is_known.all()
    ((_, features),) = source.batches(rows, np.arange(12))
    distances = torch.cdist(features.double().flatten(0, 1), codebook.double())
    best = distances.gather(1, torch.from_numpy(codes.values).long().view(-1, 1))
    assert torch.allclose(best[:, 0], distances.min(1).values, atol=1e-4)


def test_a_patch_of_another_colour_has_other_features(make_rows: MakeRows):
    images = [np.zeros((3, 32, 32), np.uint8), np.full((3, 32, 32), 255, np.uint8)]
    rows = make_rows(["a", "b"], thumbnail=[image.tobytes() for image in images])
    ((places, features),) = DescriptorPatches().batches(rows, np.array([0, 1]))
    assert places.tolist() == [0, 1]
    assert torch.allclose(features[0], torch.zeros(()))
    assert torch.allclose(features[1, :, -3:].norm(dim=1), torch.tensor(0.5))


def test_vectors_of_codes():
    values, codebook = np.array([[0, 0, 2, 2], [1, 1, 1, 1]]), torch.tensor([[1.0, 0], [0, 4], [3, 0]])
    assert code_vectors(values, codebook, "code_embedding_mean").tolist() == [[2, 0], [0, 4]]
    roots = code_vectors(values, codebook, "code_histogram")
    np.testing.assert_allclose(roots, [[0.5**0.5, 0, 0.5**0.5], [0, 1, 0]], rtol=1e-6)
    np.testing.assert_allclose((roots**2).sum(1), 1, rtol=1e-6)
    assert code_vectors(values, codebook, "official_indices").tolist() == values.tolist()
