#!/usr/bin/env python3
"""Copies sources and puts bugs into the copies, each behind a switch of its own.

    wan/sim/planted/plant.py --list                 the sources that bugs.txt changes
    wan/sim/planted/plant.py OUT                    writes OUT/<source> for each, and OUT/names.cc

Only longhaul-fuzz-planted links the copies, in place of the archives' own members. bugs.txt tells
how a bug is written. Exits 1 when a bug's old text is not there exactly once: then the product has
changed, and the bug must follow.
"""

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
SWITCH = "wan/sim/planted/planted.h"


class Problem(Exception):
    """A bug that cannot be planted."""


def read_bugs(text):
    """[(name, [(source, old, new)])] in the order of the file."""
    bugs, hunk, source = [], None, None
    for number, line in enumerate(text.splitlines(), 1):
        word, _, rest = line.partition(" ")
        if word == "bug":
            bugs.append((rest, []))
        elif word == "in":
            source = rest
        elif line[:1] in ("-", "+") and bugs and source:
            if line[0] == "-" and (hunk is None or hunk[2]):
                hunk = (source, [], [])
                bugs[-1][1].append(hunk)
            hunk["-+".index(line[0]) + 1].append(line[1:])
            continue
        elif line and word != "#":
            raise Problem(f"bugs.txt:{number}: not understood")
        hunk = None
    names = [name for name, _ in bugs]
    for name in names:
        if not re.fullmatch(r"[a-z_]+", name) or names.count(name) > 1:
            raise Problem(f"bugs.txt: {name!r} is not a name of its own")
    return [(name, [(where, "\n".join(old) + "\n", "\n".join(new) + "\n")
                    for where, old, new in hunks]) for name, hunks in bugs]


def planted(bugs, read):
    """{source: text with all its bugs}; read(source) gives the product's text."""
    texts = {}
    for index, (name, hunks) in enumerate(bugs):
        for source, old, new in hunks:
            text = texts.setdefault(source, read(source))
            places = [m.start() for m in re.finditer("(?m)^" + re.escape(old), text)]
            if len(places) != 1:
                raise Problem(f"{source}: {name}: its old text is not there exactly once:\n{old}")
            new = re.sub(r"\bPLANTED\b", f"::longhaul::sim::Planted({index})", new)
            texts[source] = text[:places[0]] + new + text[places[0] + len(old):]
    return {source: f'#include "{SWITCH}"\n{text}' for source, text in texts.items()}


def names_source(bugs):
    """The names, as a source of their own."""
    lines = "".join(f'    "{name}",\n' for name, _ in bugs)
    return (f'#include "{SWITCH}"\n\nnamespace longhaul::sim {{\n\n'
            f"const std::vector<std::string>& PlantedNames() {{\n"
            f"  static const std::vector<std::string> names = {{\n{lines}  }};\n  return names;\n"
            f"}}\n\n}}  // namespace longhaul::sim\n")


def main():
    """Command line."""
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) == 2 else 2)
    bugs = read_bugs((HERE / "bugs.txt").read_text(encoding="utf-8"))
    if sys.argv[1] == "--list":
        sources = sorted({source for _, hunks in bugs for source, _, _ in hunks})
        print(";".join(sources), end="")
        return
    out = pathlib.Path(sys.argv[1])
    files = planted(bugs, lambda source: (ROOT / source).read_text(encoding="utf-8"))
    files["names.cc"] = names_source(bugs)
    for name, text in files.items():
        path = out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        sys.exit(f"plant.py: {problem}")
