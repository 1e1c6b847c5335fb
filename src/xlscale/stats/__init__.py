"""Statistics of a record: ``groups`` (means, seed variance, contrasts), ``slopes``, ``agreement``, ``checks`` (tuning,
what was learned); ``describe`` and ``report`` put them into words and tables.

Nothing here reads files: every function takes the DataFrame of ``record.cells()`` and returns numbers or DataFrames.
"""
