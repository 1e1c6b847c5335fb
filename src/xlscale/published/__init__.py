"""The published layer: scores that others published, with provenance, and what can be said from them.

``tables`` reads what ``data_manifest/published/`` holds, ``rows`` says what is wrong with a row, ``sources`` adds rows;
``scores`` brings them to one scale, ``gains`` pairs tuned models with their bases, ``scale`` and ``regression``
estimate, ``claims`` audits, ``report`` and ``figures`` put it on paper. Regimes are never mixed.
"""
