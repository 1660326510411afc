#!/usr/bin/env python3
"""Checks the ladder: which folder may include what.

    tools/check_layers.py [ROOT]

Prints `file:line: what is wrong` and exits 1 on an upward or sideways include, on an outside header
beyond its fence, and on a test file that no CMakeLists.txt names. docs/ARCHITECTURE.md tells why.
"""

import pathlib
import re
import sys

# A file belongs to the longest prefix. Folders of one level never include each other.
LEVELS = {
    "common": 0,
    "proto": 1, "transport": 1, "model": 1, "sharding": 1, "sync": 1, "compression": 1, "pcn": 1,
    "data": 1,
    "coordinator/core": 2, "worker/core": 2, "reducer": 2, "blobs": 2,
    "coordinator": 3, "worker": 3,
    "cli": 4, "wan": 4, "tests": 4, "bench": 4, "examples": 4,
}
# These may include every folder, their own level too.
ANY_FOLDER = {"wan", "tests", "bench"}
SIDEWAYS = {("cli", "wan")}  # `longhaul wan` is a subcommand

# Folders that see the standard library and themselves only; what else each may see.
STD_ONLY = {"sync": {"common"}, "sharding": {"common"}, "compression": set()}

# Pure folders decide; they never do. Headers that could only serve doing.
PURE = {"coordinator/core", "worker/core", "reducer", "sync", "compression", "sharding"}
IMPURE_HEADERS = re.compile(
    r"^(thread|mutex|shared_mutex|condition_variable|future|semaphore|latch|barrier|stop_token"
    r"|fstream|filesystem|random|ctime|time\.h|pthread\.h|unistd\.h|fcntl\.h|poll\.h|netdb\.h"
    r"|(sys|net|netinet|arpa|linux)/.*|common/(log|bounded_queue)\.h)$")

# Outside headers: (pattern, folders that may include them). `tests` and `bench` may include all of
# them, `*` means every folder. The first match decides; a header with a folder in its name that
# matches nothing is refused. A name without a level of its own is the beginning of a path: Protobuf
# belongs to the files proto/codec*, LibTorch to worker/train/*.
FENCES = [
    (r"(ATen|torch|c10|caffe2)/", {"worker/train/", "pcn/rules/"}),
    (r"(cuda.*|cublas.*|curand.*|cuda/.*)\.h",
     {"compression/cuda/", "worker/train/", "worker/site/"}),
    (r"nccl\.h", {"worker/site/"}),
    (r"zmq(_addon|_utils)?\.(h|hpp)", {"transport"}),
    (r"google/protobuf/|.*\.pb\.h", {"proto/codec"}),
    (r"CLI/", {"cli", "wan"}),
    (r"toml\+\+|toml\.hpp", {"cli", "wan"}),
    (r"spdlog/|fmt/", {"common"}),
    (r"nlohmann/", {"model", "coordinator", "cli", "wan"}),
    (r"httplib\.h", {"coordinator", "cli", "data"}),
    (r"prometheus/", {"coordinator"}),
    (r"sodium(\.h|/)", {"common", "transport", "data", "cli"}),
    (r"xxhash\.h|xxh3\.h", {"common"}),
    (r"(zstd|zdict)(_errors)?\.h", {"data"}),
    (r"unicode/|re2/|simdjson\.h", {"data"}),
    (r"benchmark/|gloo/", set()),
    (r"linux/|net/", {"wan", "transport"}),
    (r"absl/", {"*"}),
    (r"sys/|netinet/|arpa/|bits/", {"*"}),
]
SKIPPED = {"build", "runs", "__pycache__"}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')


def source_files(root, suffixes):
    """Every file of the tree with one of the suffixes, sorted, without hidden and built folders."""
    found = []
    for path in sorted(root.iterdir()):
        if path.name.startswith(".") or path.is_symlink():
            continue
        if path.is_dir():
            found += source_files(path, suffixes) if path.name not in SKIPPED else []
        elif path.suffix in suffixes:
            found.append(path)
    return found


def unit_of(name):
    """The folder with a level that a path from the root belongs to, or None."""
    parts = name.split("/")[:-1]
    for length in range(len(parts), 0, -1):
        prefix = "/".join(parts[:length])
        if prefix in LEVELS:
            return prefix
    return None


def may_include(source, target, is_test):
    """Whether a file of folder `source` may include a header of folder `target`."""
    if source == target or source in ANY_FOLDER or (source, target) in SIDEWAYS:
        return True
    if source in STD_ONLY and not is_test:
        return target in STD_ONLY[source]
    if {source.split("/")[0], target.split("/")[0]} == {"coordinator", "worker"}:
        return False
    return LEVELS[target] < LEVELS[source]


def fence_error(name, unit, header):
    """Why `header`, which is not ours, must not be included by file `name`; or None."""
    if unit in ("tests", "bench"):
        return None
    if re.match(r"(gtest|gmock)/", header):
        return None if name.endswith("_test.cc") else "test headers belong in *_test.cc"
    for pattern, folders in FENCES:
        if not re.match(pattern, header):
            continue
        if unit in STD_ONLY and not any(folder.startswith(unit + "/") for folder in folders):
            return f"{unit}/ sees the standard library only"
        inside = unit in folders or any(
            name.startswith(folder) for folder in folders if folder not in LEVELS)
        if "*" in folders or inside:
            return None
        allowed = ", ".join(sorted(folders)) or "tests and bench"
        return f"fenced: only {allowed} may include it"
    if "/" in header:
        return "unknown outside header; give it a fence in tools/check_layers.py"
    if unit in STD_ONLY and header.endswith((".h", ".hpp")) and not header.endswith("intrin.h"):
        return f"{unit}/ sees the standard library only"
    return None


def include_error(name, unit, quote, header):
    """Why file `name` must not include `header`; or None."""
    if unit in PURE and not name.endswith("_test.cc") and IMPURE_HEADERS.match(header):
        return f"{unit}/ is pure: no threads, clocks, files, sockets or randomness"
    target = unit_of(header)
    if target:
        if may_include(unit, target, name.endswith("_test.cc")):
            return None
        return f"{unit} (level {LEVELS[unit]}) may not include {target} (level {LEVELS[target]})"
    if quote == '"' and "/" not in header and not header.endswith(".pb.h"):
        return "include from the root of the repository"
    return fence_error(name, unit, header)


def include_errors(root):
    """All includes of the tree."""
    errors = []
    for path in source_files(root, {".h", ".cc", ".cu", ".cpp"}):
        name = path.relative_to(root).as_posix()
        unit = unit_of(name)
        if unit is None:
            errors.append(f"{name}:1: not in a folder of the ladder")
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = INCLUDE.match(line)
            if not match:
                continue
            error = include_error(name, unit, *match.groups())
            if error:
                errors.append(f"{name}:{number}: {match[2]}: {error}")
    return errors


def named_tests(root):
    """Every source that some CMakeLists.txt names, as a path from the root."""
    named = set()
    for path in source_files(root, {".txt"}):
        if path.name == "CMakeLists.txt":
            text = re.sub(r"#.*", "", path.read_text(encoding="utf-8"))
            folder = path.parent.relative_to(root)
            named |= {(folder / word).as_posix() for word in re.findall(r"[\w./-]+_test\.cc", text)}
    return named


def test_errors(root):
    """Test files that would never run."""
    named = named_tests(root)
    names = [path.relative_to(root).as_posix() for path in source_files(root, {".cc"})]
    return [f"{name}:1: no CMakeLists.txt names this test" for name in names
            if name.endswith("_test.cc") and name not in named]


def main():
    """Command line."""
    if len(sys.argv) > 2 or sys.argv[1:] in (["-h"], ["--help"]):
        print(__doc__.strip())
        sys.exit(0 if len(sys.argv) == 2 else 2)
    default = pathlib.Path(__file__).resolve().parent.parent
    root = pathlib.Path(sys.argv[1]) if len(sys.argv) == 2 else default
    errors = include_errors(root) + test_errors(root)
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
