"""Statistics of a record: ``groups`` (means, seed variance, contrasts), ``slopes`` (and gains, and gamma), ``fits``
(curves, as description), ``agreement`` (tolerances), ``preparation`` (what is settled before the confirmatory study),
``primary`` (its tests), ``sensitivity`` (what their answer rests on), ``method_gains`` and ``method_languages`` (of
training methods over plain fine-tuning), ``simulation`` (records with a known truth, to prove them on).

Nothing here reads results: every function takes the DataFrames of ``record.store`` and returns numbers or DataFrames.
"""
