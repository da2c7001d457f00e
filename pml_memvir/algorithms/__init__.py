"""Ways to compute the loss over actual and virtual classes, one a file."""
