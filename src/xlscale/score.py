"""The door to the scorer of prediction folders: ``python -m xlscale.score``. What is behind it: ``xtreme``."""

import sys

from xlscale.xtreme.command import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
