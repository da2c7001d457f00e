"""All that knows pytorch-metric-learning (PML), version 2.9."""
