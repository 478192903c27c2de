"""Grading: a loaded bundle judges documents. The only runtime dependency that is heavy is onnxruntime."""
