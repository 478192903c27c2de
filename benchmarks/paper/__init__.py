"""The questions that the paper left open, measured; `results/` holds every number of docs/paper.md."""
