"""Data: from pinned packages to bundled Parquet, and from bundled Parquet to a ``datasets.DatasetDict``.

``packages`` obtains package files, the builders (``topic``, ``udhr``, ``squadshifts``) turn them into rows,
``bundles`` writes and checks the Parquet, ``similarity`` and ``leaks`` keep test text out of training text, and
``corpora`` loads what the cards describe. ``python -m xlscale.data`` rebuilds every bundled file.
"""
