"""Proxy-NCA in its softmax form: every proxy, the own one too, in the denominator."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_metric_learning.utils import common_functions as c_f

from .norm_softmax import NormSoftmax


class ProxyNCA(NormSoftmax):
    """Softmax over negative squared distances to one proxy of unit length a class.

    Naive equivalent:

        distances = cdist(embeddings, normalize(W, dim=0).t()) ** 2
        cross_entropy(-scale * distances, labels)

    As the proxies have unit length, ||x - w||^2 = ||x||^2 + 1 - 2 x.w, of which only
    -2 x.w differs between the classes: the logits are 2 scale x.w, without what is
    constant in a row. No row is dropped, however small its softmax.

    Args:
        num_classes: C.
        embedding_size: D.
        scale: factor of the squared distances, > 0.
        **kwargs: see Softmax.

    Shapes:
        embeddings (B, D), labels (B,) of 0 to C-1; `W` is (D, C).

    Source: Movshovitz-Attias et al., ICCV 2017, arXiv 1703.07464; scale and
    initialisation of the official implementation of MemVir.
    """

    def __init__(
        self,
        num_classes: int,
        embedding_size: int,
        scale: float = 12.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, embedding_size, scale=scale, **kwargs)

    def get_logits(self, embeddings: torch.Tensor) -> torch.Tensor:
        """Logits (B, C) of embeddings (B, D), up to a constant in each row."""
        return 2 * super().get_logits(embeddings)

    def get_default_weight_init_func(self) -> c_f.TorchInitWrapper:
        return c_f.TorchInitWrapper(torch.nn.init.kaiming_normal_, mode="fan_out")
