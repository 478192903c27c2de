"""One module for each published number; the last line each prints is JSON."""
