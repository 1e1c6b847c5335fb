"""Statistics of a record: ``groups`` (means, seed variance, contrasts), ``slopes`` (and gains, and gamma),
``agreement``.

Nothing here reads files: every function takes the DataFrame of ``store.cells`` and returns numbers or DataFrames.
"""
