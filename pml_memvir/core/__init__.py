"""MemVir as mathematics: PyTorch only, nothing of metric-learning libraries."""
