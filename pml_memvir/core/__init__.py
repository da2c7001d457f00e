"""MemVir as mathematics: PyTorch and NumPy, nothing of metric-learning libraries."""
