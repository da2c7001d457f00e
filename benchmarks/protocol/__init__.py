"""Experiments: what is trained, on which classes, and which epoch counts."""
