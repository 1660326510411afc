#!/usr/bin/env python3
"""Checks that no program of the product holds a switch for a planted bug.

    tools/check_planted.py PROGRAM...

Exits 1 when a program has a symbol of wan/sim/planted/, or when a source outside of that folder
names it.
"""

import pathlib
import subprocess
import sys

from check_layers import source_files

ROOT = pathlib.Path(__file__).resolve().parent.parent
FOLDER = "wan/sim/planted/"


def symbols(program):
    """The demangled symbols of a program that is not stripped."""
    command = ["nm", "--demangle", str(program)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    """Command line."""
    errors = [f"{program}: has longhaul::sim::Planted" for program in sys.argv[1:]
              if "longhaul::sim::Planted" in symbols(program)]
    for path in source_files(ROOT, {".h", ".cc"}):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith(FOLDER) and FOLDER in path.read_text(encoding="utf-8"):
            errors.append(f"{name}: includes {FOLDER}")
    print("\n".join(errors), end="\n" if errors else "")
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
