"""What MemVir costs, against the naive implementation and the least possible."""
