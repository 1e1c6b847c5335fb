"""Data: the columns of every family, files that open only with the sha256 that their card states, and what is measured
on their rows. Nothing here downloads or builds: that is ``acquire``."""
