"""`python -m porter` is the command `porter`."""

import sys

from porter.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
