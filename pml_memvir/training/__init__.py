"""What long trainings need beside the mathematics: parts that MemVir has."""
