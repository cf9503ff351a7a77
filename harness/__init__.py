"""The engine of rollgate: evidence in, a verdict with proof out."""
