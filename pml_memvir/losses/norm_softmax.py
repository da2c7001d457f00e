"""Norm-softmax: softmax over scaled cosines to one weight vector a class."""

from __future__ import annotations

from typing import Any

import torch

from .softmax import Softmax


class NormSoftmax(Softmax):
    """Softmax cross-entropy with class weights of unit length and a scale.

    Naive equivalent, for embeddings of unit length:

        cross_entropy(scale * embeddings @ normalize(W, dim=0), labels)

    It differs from PML's NormalizedSoftmaxLoss in that embeddings are used as given,
    in its initialisation, and in that the scale is 1 / temperature.

    Args:
        num_classes: C.
        embedding_size: D.
        scale: factor of the cosines, > 0.
        **kwargs: see Softmax.

    Shapes:
        embeddings (B, D), labels (B,) of 0 to C-1; `W` is (D, C).

    Source: Zhai and Wu, BMVC 2019, arXiv 1811.12649; scale and initialisation of the
    official implementation of MemVir.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 23.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, **kwargs)
        if not scale > 0:
            raise ValueError(f"scale must be > 0, got {scale}")
        self.scale = scale
        self.add_to_recordable_attributes(name="scale", is_stat=False)

    def class_vectors(self) -> torch.Tensor:
        return torch.nn.functional.normalize(self.W, dim=0)

    def get_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of embeddings (B, D)."""
        return self.scale * super().get_logits(embeddings)
