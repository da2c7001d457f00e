"""MemVir's state in and out: tensors only, and all of it or nothing."""
