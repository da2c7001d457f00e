"""Base losses of the MemVir paper that PML does not have in the paper's form."""

from .norm_softmax import NormSoftmax
from .proxy_nca import ProxyNCA
from .softmax import Softmax

__all__ = ["NormSoftmax", "ProxyNCA", "Softmax"]
