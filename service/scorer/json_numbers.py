"""Numbers as JSON has them, many at once."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import orjson


def texts(values: npt.NDArray[np.float64]) -> list[bytes]:
    """Each number, row by row; one call for all takes a tenth of the time of a call for each."""
    if not values.size:
        return []
    text = orjson.dumps(np.ascontiguousarray(values).ravel(), option=orjson.OPT_SERIALIZE_NUMPY)
    return text[1:-1].split(b",")
