"""Data that other people publish: from their files to rows of a family, by what a card's ``source`` says.

``places`` finds files on this machine, ``readers`` (and a module per special format) gives their records, ``columns``
turns a record into a row, ``convert`` writes the Parquet file that everything else reads, and its lock; ``download``
and ``check`` are the only ones that ask the network.
"""
