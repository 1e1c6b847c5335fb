"""Scores of prediction folders of XTREME-R and XTREME: ``python -m xlscale.score``, behind ``make score``.

``benchmark`` says what is scored, from data_manifest/benchmarks/*.yaml. ``source`` is a file that is being read, with
faults that name file, line and language. One module per kind of file reads predictions and labels, and has ``metrics``
compare them: ``labels``, ``tags``, ``answers``, ``pairs``, ``ranking``. ``folders`` goes through the folders and
averages, ``report`` prints the table and writes the JSON. Nothing here knows models, studies or the local suite.
"""
