"""Benchmarks of pml_memvir: run as `python -m benchmarks` from a checkout."""
