"""ImageTower: what vision libraries share, a transform of pictures and a network over batches of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from momok.model.arrays import Float32
from momok.training.encoders.base import About
from momok.training.encoders.models.base import computing

if TYPE_CHECKING:
    from PIL.Image import Image


class ImageTower:
    """A describer of pictures. ``network``: Tensor[B, ...] of transformed pictures -> Tensor[B, F]."""

    batch_size = 32
    centred = False

    def __init__(
        self,
        transform: Callable[[Image], Tensor],
        network: Callable[[Tensor], Tensor],
        device: torch.device,
        about: About,
    ) -> None:
        self._transform, self._network, self._device = transform, network, device
        self.about = about

    def prepare(self, picture: Image) -> Tensor:
        return self._transform(picture)

    def describe(self, parts: Sequence[Tensor]) -> Float32:
        with computing():
            vectors_BF = self._network(torch.stack(list(parts)).to(self._device))
        features: Float32 = vectors_BF.float().cpu().numpy()
        return features
