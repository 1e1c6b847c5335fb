"""Statistics of a record: ``groups`` (means, pooled seed variance, contrasts), ``slopes``, ``agreement``, ``describe``.

Nothing here reads files: every function takes the DataFrame of ``record.cells()`` and returns numbers or DataFrames.
"""
