"""The cache in front of a frozen encoder: features are found by the content they come from, or computed once.

The content of an image is its encoded bytes, whatever the data set and the id. The content of a text is the
text. So the features that one run stored serve every other data set with the same images or texts.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from frugalclip.core.prefetch import prefetched
from frugalclip.core.types import CachedFeatures
from frugalclip.data.image_faults import BadImage
from frugalclip.data.image_reader import ImageReader
from frugalclip.data.images import decode
from frugalclip.data.manifest import Manifest
from frugalclip.features.backbone import BackboneEncoder
from frugalclip.features.format import digest, texts_digest
from frugalclip.features.store import Store

_KEPT_TEXTS = 200_000  # computed features of texts that stay in memory
_TEXTS_AT_A_TIME = 256


class FeatureCache:
    """Features of a frozen encoder: from stores where they hold them, otherwise computed.

    Computed features of texts stay in memory, up to a limit. Those of images do not, since they are large.

    Args:
        encoder: a frozen backbone.
        stores: filled by this encoder, all with the same settings; the first that has a content serves it.
    """

    def __init__(self, encoder: BackboneEncoder, stores: Sequence[Store] = ()) -> None:
        self.encoder = encoder
        self._computed: dict[bytes, Tensor] = {}  # hash of the text -> (width,) or (facets, width)
        self.use(stores)

    def use(self, stores: Sequence[Store]) -> None:
        """Find features in these stores from now on."""
        self.stores = list(stores)
        self._places: dict[bytes, tuple[int, int]] = {}  # hash of the content -> number of the store, row
        for number, store in enumerate(self.stores):
            has_features = store.counts(self.encoder.kind) > 0
            for row, key in enumerate(store.table[f"{self.encoder.kind}_digest"].to_pylist()):
                if key is not None and has_features[row]:
                    self._places.setdefault(key, (number, row))

    def texts(self, texts: Sequence[str]) -> CachedFeatures:
        """Features of texts: (texts, width) or (texts, facets, width), on the CPU."""
        keys = [texts_digest([text]) for text in texts]
        found = self._first(keys)
        found |= {key: self._computed[key] for key in keys if key in self._computed}
        new = {key: text for key, text in zip(keys, texts, strict=True) if key not in found}
        computed: dict[bytes, Tensor] = {}
        for start in range(0, len(new), _TEXTS_AT_A_TIME):
            some = list(new)[start : start + _TEXTS_AT_A_TIME]
            computed |= zip(some, self.encoder.encode_text([new[key] for key in some]), strict=True)
        if len(self._computed) + len(computed) > _KEPT_TEXTS:
            self._computed.clear()
        self._computed |= computed
        found |= computed
        return CachedFeatures(torch.stack([found[key] for key in keys]))

    def images(
        self, manifest: Manifest, *, batch: int, faults: list[tuple[int, str]], workers: int = 2
    ) -> Iterator[tuple[list[int], CachedFeatures]]:
        """Features of the images of a data set, as evaluation sees them, in batches.

        Args:
            manifest: the data set.
            batch: images of a batch.
            faults: rows that do not decode are appended, with their cause.
            workers: threads that read and decode; an image whose features are stored is not decoded.

        Yields:
            Rows, and their features (rows, width) or (rows, patches, width) on the CPU.
        """
        reader = ImageReader(manifest)

        def prepared(row: int) -> tuple[bytes, Tensor | None] | str:
            try:
                data = reader.bytes(row)
                key = digest(data)
                return key, None if key in self._places else self.encoder.pixels(decode(data))
            except BadImage as error:
                return error.cause

        with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
            for first, batch_of in prefetched(prepared, range(len(manifest)), batch=batch, pool=pool):
                faults += [(first + i, cause) for i, cause in enumerate(batch_of) if isinstance(cause, str)]
                good = [(first + i, one) for i, one in enumerate(batch_of) if not isinstance(one, str)]
                if good:
                    yield [row for row, _ in good], self._images([one for _, one in good])

    def _images(self, images: Sequence[tuple[bytes, Tensor | None]]) -> CachedFeatures:
        """Features of images given by hash, and by pixels (1, 3, height, width) where not stored."""
        found = self._first([key for key, pixels in images if pixels is None])
        new = [pixels for _, pixels in images if pixels is not None]
        computed = iter(self.encoder.encode_image(torch.cat(new)) if new else ())
        return CachedFeatures(
            torch.stack([found[key] if pixels is None else next(computed) for key, pixels in images])
        )

    def first_features(self, key: bytes) -> CachedFeatures | None:
        """Stored features (1, width) or (1, patches, width) of one content; None where there are none."""
        found = self._first([key])
        return CachedFeatures(found[key][None]) if key in found else None

    def views(self, keys: Sequence[bytes], ids: Sequence[str]) -> list[np.ndarray | None]:
        """All stored views of some contents, (views, ...) float32 each, and None where there are none.

        Args:
            keys: hashes of the contents.
            ids: of their samples. Views after the first depend on the id, so several serve that id only.
        """
        places = {key: self._place(key, id) for key, id in zip(keys, ids, strict=True)}
        found = self._stored({key: place for key, place in places.items() if place})
        return [found.get(key) for key in keys]

    def _place(self, key: bytes, id: str) -> tuple[int, int] | None:
        place = self._places.get(key)
        if place is None:
            return None
        store, row = self.stores[place[0]], place[1]
        return place if store.counts(self.encoder.kind)[row] == 1 or store.ids[row] == id else None

    def _first(self, keys: Sequence[bytes]) -> dict[bytes, Tensor]:
        """The first stored view of each content that is stored."""
        found = self._stored({key: self._places[key] for key in keys if key in self._places})
        return {key: torch.from_numpy(views[0]) for key, views in found.items()}

    def _stored(self, places: dict[bytes, tuple[int, int]]) -> dict[bytes, np.ndarray]:
        """All views of each content, store by store."""
        found: dict[bytes, np.ndarray] = {}
        for number, store in enumerate(self.stores):
            rows = {key: row for key, (own, row) in places.items() if own == number}
            if rows:
                ragged = store.ragged(self.encoder.kind, list(rows.values()))
                found |= {key: ragged[i].numpy() for i, key in enumerate(rows)}
        return found
