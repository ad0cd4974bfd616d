"""Exit code 0 when an address answers with 2xx: ``python3 -I -S healthy.py URL``. Standard library only, so that
asking often costs little.
"""

from __future__ import annotations

import sys
from urllib.error import URLError
from urllib.request import urlopen

TIMEOUT_S = 4.0


def main(arguments: list[str]) -> int:
    """Ask once."""
    [url] = arguments
    try:
        with urlopen(url, timeout=TIMEOUT_S) as answer:
            return 0 if 200 <= answer.status < 300 else 1
    except (URLError, OSError) as error:
        print(f"{url}: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
