"""`python -m ovdet` is the `ovdet` command."""

import sys

from ovdet.cli import main

sys.exit(main())
