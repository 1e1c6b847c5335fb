"""Data: from pinned packages to bundled Parquet, and from bundled Parquet to a ``datasets.DatasetDict``.

``packages`` obtains package files, readers (``debian``, ``libreoffice``, ``catalogues``, ``wordnet``) say what is in
them, and builders, one module per set or kind of set, turn it into rows. ``bundles`` writes and checks the Parquet,
``similarity`` and ``leaks`` keep test text out of training text, ``intermediate``, ``lexicon`` and ``unlabelled`` keep
what they take away from the sets before them, and ``corpora`` loads what the cards describe. ``python -m xlscale.data``
rebuilds every file and proves that nothing leaks.
"""

from xlscale.core.files import configure_hugging_face

configure_hugging_face()  # before a module of this room imports one of its libraries
