"""`python -m frugalclip` is the command `frugalclip`."""

from frugalclip.cli import main

if __name__ == "__main__":
    main()
