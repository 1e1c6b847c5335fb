"""Pretrained models: readers of published weights, and the ladder of rungs that is cut from a model."""
