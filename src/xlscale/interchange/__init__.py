"""What other people's tools read of the record: a crate, manifests of data, results of models, a table of scores.

Belongs here: one module per format. Each states in it what is recorded or stands in a card; nothing is computed anew,
and the same record and cards give the same bytes. XTREME's layout of predictions is in ``xtreme.layout``.
"""
