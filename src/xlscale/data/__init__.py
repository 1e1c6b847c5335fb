"""Data: the columns of every family, files that open only with the sha256 that their card states, and what is measured
on their rows. Nothing here downloads or builds: that is ``acquire``."""

import os

from xlscale.core.files import HUB_ENVIRONMENT

os.environ.update(HUB_ENVIRONMENT | os.environ)  # before a module of this room imports ``datasets``, which reads it
