# Of the JupyterLab that `make explore` opens, see src/xlscale/commands/explore.py.
import warnings

from xlscale.commands import explore

warnings.filterwarnings("ignore", "Overriding existing pre_save_hook")  # Jupyter reads this more than once
c.ContentsManager.pre_save_hook = explore.strip  # noqa: F821
