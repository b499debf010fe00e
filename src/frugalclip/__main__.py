"""`python -m frugalclip` is the command `frugalclip`."""

import sys

from frugalclip.cli import main

if __name__ == "__main__":
    sys.exit(main())
