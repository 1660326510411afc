#!/usr/bin/env python3
"""Checks the style rules that a compiler does not.

    tools/tidy.py [ROOT]

Prints `file:line: what is wrong` and exits 1 on: lines over 100 columns, functions over 70 lines,
files over 800 lines (between 500 and 800 they are listed and pass), calls where they are banned,
headers without `#pragma once` or without a contract comment on the first line, notes to self, and
paths of one particular machine.
"""

import pathlib
import re
import sys

from check_layers import PURE, source_files, unit_of

MAX_COLUMNS = 100
MAX_FUNCTION_LINES = 70
WARN_FILE_LINES = 500
MAX_FILE_LINES = 800
CPP = {".h", ".cc", ".cu", ".cpp"}
CODE = CPP | {".py", ".sh", ".proto"}
TEXT = CODE | {".md", ".txt", ".cmake", ".json", ".toml"}

NOTES = re.compile(r"\b(" + "|".join(["TO" + "DO", "FIX" + "ME", "X" * 3]) + r")\b")
MACHINE_PATHS = re.compile(r"(?<![\w.$}*~/-])/(work|root)/")
HOME_PATHS = re.compile(r"(?<![\w.$}*~/-])/home/\w+")  # in a test it is an invented person's


def is_test(name):
    """Whether a file is test code."""
    return name.endswith("_test.cc") or name.startswith("tests/")


def in_folders(*folders):
    """A predicate: the file lies in one of the folders."""
    return lambda name: unit_of(name) in folders


# (pattern in code, whether a file may do it, what is wrong)
BANNED = [
    (r"\b(sleep_for|sleep_until|usleep|nanosleep|sleep|SleepFor)\s*\(",
     lambda name: not is_test(name), "a test must not sleep: wait for the event itself"),
    (r"\bgetenv\s*\(", lambda name: "main" in name.rsplit("/", 1)[-1] or is_test(name),
     "environment variables are read in main only"),
    (r"\brandom_device\b", in_folders("common", "cli", "transport"),
     "random_device belongs in common/, cli/ and transport/"),
    (r"\b(system_clock|steady_clock|high_resolution_clock|clock_gettime|gettimeofday)\b",
     lambda name: unit_of(name) not in PURE | {"proto"} or is_test(name),
     "pure folders and proto/ read no clock"),
    (r"(?<![\w.>])s?rand\s*\(", lambda name: False, "use common/rng.h"),
    (r"\busing\s+namespace\s+std\b", lambda name: False, "no using namespace std"),
]


def blank(match):
    """Spaces in place of a comment or a string, line breaks kept; quotes stay to mark a string."""
    text = match[0]
    body = re.sub(r"[^\n]", " ", text)
    return '""' + body[2:] if text[0] in "\"RuUL" and len(text) > 1 else body


TOKENS = re.compile(
    r"//[^\n]*|/\*.*?\*/"
    r'|\b(?:u8|[uUL])?R"(?P<tag>[^\s()\\]{0,16})\(.*?\)(?P=tag)"'
    r'|"(?:\\.|[^"\\\n])*"'
    r"|(?<![0-9a-zA-Z_])(?:u8|[uUL])?'(?:\\.|[^'\\\n])+'",
    re.DOTALL)


def code_only(text):
    """C++ without comments, string contents and preprocessor lines; same line numbers."""
    text = TOKENS.sub(blank, text)
    return re.sub(r"^[ \t]*#(?:[^\n\\]|\\.|\\\n)*", lambda m: re.sub(r"[^\n]", " ", m[0]), text,
                  flags=re.MULTILINE)


SCOPE = re.compile(r"^(inline\s+)?(namespace\b|extern\b\s*\"\"\s*$)"
                   r"|\b(class|struct|union|enum)\b(?!.*\))")


def brace_kind(header):
    """What a `{` outside of functions opens: `scope`, `function` or `value`."""
    header = header.strip()
    flat = re.sub(r"template\s*<[^{}]*?>\s*(?=class|struct|union|[\w:~&*<>\s]+[(\s])", "", header)
    if SCOPE.search(flat):
        return "scope"
    outside = re.sub(r"\([^()]*\)", "()", flat)
    while outside != flat:
        flat, outside = outside, re.sub(r"\([^()]*\)", "()", outside)
    if "operator" not in header and re.search(r"(?<![=!<>])=(?!=)", re.sub(r"\(\)", "", flat)):
        return "value"
    return "function" if "()" in flat else "value"


def function_name(header):
    """A short name for a message."""
    test = re.search(r"\b(TEST\w*|BENCHMARK\w*|FUZZ\w*)\s*\(([^)]*)\)", header)
    if test:
        return f"{test[1]}({test[2].strip()})"
    name = re.search(r"([\w:~]+|operator\s*\S+?)\s*\(", header)
    return name[1] if name else "function"


def functions(text):
    """(name, first line, last line) of every function body outside of other functions."""
    code = code_only(text)
    found, stack, start, pending = [], [], 0, None
    for match in re.finditer(r"[{};]|\b(?:public|private|protected)\s*:", code):
        token, inside = match[0], any(kind == "function" for kind, _ in stack)
        if token == "{":
            header = code[start:match.start()]
            kind = "inner" if inside else "function" if pending else brace_kind(header)
            first = start + len(header) - len(header.lstrip())
            stack.append((kind, pending or (function_name(header), first)))
            pending = None
        elif token == "}" and stack:
            kind, (name, first) = stack.pop()
            if kind == "function":
                follows = code[match.end():match.end() + 200].lstrip()[:1]
                if follows in (",", "{"):  # it was a member initializer, `: a_{1}, b_{2} {`
                    pending = (name, first)
                else:
                    found.append((name, code.count("\n", 0, first) + 1,
                                  code.count("\n", 0, match.start()) + 1))
            elif kind == "value" and pending is None:
                continue  # `int a[] = {1}, b[] = {2};` goes on
        start = match.end()
    return found


def check_cpp(name, text):
    """Rules for C++ only."""
    errors = []
    if name.endswith(".h"):
        if "#pragma once" not in text:
            errors.append(f"{name}:1: no #pragma once")
        if not text.startswith(("//", "/*")):
            errors.append(f"{name}:1: a header begins with a comment: its contract")
    for function, first, last in functions(text):
        if last - first + 1 > MAX_FUNCTION_LINES:
            errors.append(f"{name}:{first}: function {function} has {last - first + 1} lines, more "
                          f"than {MAX_FUNCTION_LINES}")
    for number, line in enumerate(code_only(text).splitlines(), 1):
        for pattern, allowed, message in BANNED:
            if re.search(pattern, line) and not allowed(name):
                errors.append(f"{name}:{number}: {message}")
    return errors


def check_file(name, text):
    """(errors, whether the file is long) of one file."""
    errors, lines = [], text.splitlines()
    suffix = pathlib.PurePosixPath(name).suffix
    is_code = suffix in CODE or not suffix
    for number, line in enumerate(lines, 1):
        if is_code and len(line) > MAX_COLUMNS and "://" not in line:
            errors.append(f"{name}:{number}: {len(line)} columns, more than {MAX_COLUMNS}")
        note = NOTES.search(line)
        if note:
            errors.append(f"{name}:{number}: {note[0]}: do it or drop it")
        if MACHINE_PATHS.search(line) or (HOME_PATHS.search(line) and not is_test(name)):
            errors.append(f"{name}:{number}: a path of one particular machine")
    if is_code and len(lines) > MAX_FILE_LINES:
        errors.append(f"{name}:1: {len(lines)} lines, more than {MAX_FILE_LINES}")
    if suffix in CPP:
        errors += check_cpp(name, text)
    return errors, is_code and WARN_FILE_LINES < len(lines) <= MAX_FILE_LINES


def main():
    """Command line."""
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) == 2 else 2)
    default = pathlib.Path(__file__).resolve().parent.parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) == 2 else default
    errors = []
    for path in source_files(root, TEXT) + [root / ".ci" / "run"]:
        if path.exists():
            name = path.relative_to(root).as_posix()
            found, is_long = check_file(name, path.read_text(encoding="utf-8"))
            errors += found
            if is_long:
                print(f"{name}: over {WARN_FILE_LINES} lines (passes)")
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
