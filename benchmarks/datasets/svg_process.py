"""Renders SVG, a line of JSON each, in a process of its own: a script.

A small drawing can take any time and memory, or crash its renderer. Here that ends this
process, and not the one that has asked.
"""

from __future__ import annotations

import base64
import json
import signal
import sys

import resvg_py

SECONDS = 2  # of processor time, for a drawing
MEMORY = 2 << 30


def set_limits() -> None:
    """Where the system has them."""
    try:
        import resource
    except ImportError:
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))


def main() -> None:
    set_limits()
    for line in sys.stdin:
        if hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_PROF, SECONDS)  # which would end it
        try:
            png = resvg_py.svg_to_bytes(**json.loads(line))
            answer = {"png": base64.b64encode(bytes(png)).decode()}
        except ValueError as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
