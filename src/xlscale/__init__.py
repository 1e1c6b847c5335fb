"""Scaling of zero-shot cross-lingual transfer after English intermediate-task training.

The package is thin: the notebooks in ``notebooks/`` tell the story, this holds what they call. Importing it is
instant; torch, pandas and transformers are imported by the modules that need them, when they are needed.
"""

__version__ = "0.1.0"
