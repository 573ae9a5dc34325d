"""Frame: what stands around the answers in the JSON of a ``PredictResponse``."""

from __future__ import annotations

from collections.abc import Iterable

import orjson

from momok.model.bundle.catalogue import Catalogue
from momok.model.scores import FUSIONS


class Frame:
    def __init__(self, bundle: Catalogue) -> None:
        manifest = bundle.manifest
        model = orjson.dumps({"name": manifest.name, "version": manifest.version})
        kind = orjson.dumps(FUSIONS[bundle.decision].score_kind)
        self._before = b'{"model":%b,"answers":[' % model
        self._after = b'],"score_kind":%b}' % kind

    def around(self, answers: Iterable[bytes]) -> bytes:
        return b"%b%b%b" % (self._before, b",".join(answers), self._after)
