"""Robots that get better by practising: two-stage post-training of embodied foundation models."""
