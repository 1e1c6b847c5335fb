"""The explorer, ``explore.ipynb``: a choice in, a figure or a table out; ``widgets`` has what a hand moves."""
