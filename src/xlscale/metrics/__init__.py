"""What is measured: one module per kind of prediction, each metric once.

``classification`` of labels, ``answers`` to questions, ``spans`` of tags, ``retrieval`` of candidates; ``predictions``
is the table of a cell and what follows from it. Plain values and arrays go in: nothing here knows a task or a file.

Each is a few lines on arrays and not a call of scikit-learn or seqeval, which the tests hold it to: every cell would
pay 1.1 s for importing scikit-learn, and seqeval takes 20 times as long over the tags of a benchmark.
"""
