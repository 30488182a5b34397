"""A violation added to the live detector: what is known about it, a head on frozen features, its judgement and release."""
