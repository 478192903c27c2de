"""How fast relgrade grades, beside the engines people use today: `python -m benchmarks.speed`."""
