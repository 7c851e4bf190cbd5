"""Run the demo: `python -m demo`, or `python -m demo --serve` to look at the site afterwards.

Ends with 1 if a promise is broken, and says which.
"""

from __future__ import annotations

import argparse
import signal
import sys

from demo.site import running_site


def main() -> int:
    """Show what becomes of the files, and return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument("--serve", action="store_true", help="leave the site running, with its admin")
    # For the tests of the demo itself: spoils the outcome, which must then be noticed.
    parser.add_argument("--break", dest="spoil", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with running_site() as site:
            # Only now: models cannot be imported before Django is set up.
            from demo.serve import serve
            from demo.telling import tell

            held = tell(site, spoil=options.spoil)
            if options.serve:
                serve(site)
    except KeyboardInterrupt:
        return 130
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
