"""``python -m desk``: the commands of the support desk."""

import sys

from desk.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
