"""The published layer: scores that others published, with provenance, and what can be said from them.

``tables`` reads ``data_manifest/published/``, ``rows`` checks the rows of a new source, ``sources`` adds them;
``scores`` brings scores to one scale, ``gains`` pairs tuned models with their bases, ``scale`` and ``regression``
estimate, ``claims`` audits. Regimes are never mixed. No figure and no sentence is made here: those are in ``report``.
"""
