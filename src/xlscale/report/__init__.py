"""What is shown and said: numbers, labels, tables, figures and the paper. What is computed from a record lies below."""

import pandas as pd

pd.options.display.html.use_mathjax = False  # in a table of a notebook, a dollar in the data begins no formula
