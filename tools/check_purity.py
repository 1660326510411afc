#!/usr/bin/env python3
"""Checks that the pure libraries cannot do, only decide.

    tools/check_purity.py BUILD_DIR [SOURCE_DIR]

Runs `nm` on the archives of the pure folders and exits 1 when one needs a clock, a socket, a file,
a thread, a lock, outside randomness or the environment; in sync/ and compression/ also when it
needs a libm function whose last bit differs between machines.
"""

import pathlib
import re
import subprocess
import sys

FOLDERS = ["coordinator/core", "worker/core", "reducer", "sync", "compression", "sharding"]
EXACT = {"sync", "compression"}

# Whole names of C functions.
IMPURE_C = set("""
clock clock_gettime gettimeofday time timespec_get nanosleep usleep sleep
socket connect send sendto sendmsg recv recvfrom recvmsg accept accept4 bind listen poll ppoll
select epoll_create epoll_create1 epoll_wait getaddrinfo
open open64 openat openat64 creat fopen fopen64 fdopen freopen read write pread pwrite pread64
pwrite64 fread fwrite rename unlink remove mkdir stat fstat fsync fdatasync mmap mmap64 ioctl
fork execve execvp system popen posix_spawn
rand srand random drand48 getrandom getentropy getenv secure_getenv setenv
""".split())
# Beginnings of demangled names.
IMPURE_PREFIXES = ("pthread_", "sem_", "thrd_", "mtx_", "zmq_", "sodium_", "randombytes")
IMPURE_CXX = re.compile(
    r"std::chrono::.*_clock::now|std::this_thread|std::(__\w+::)?(j?thread|random_device)\b"
    r"|std::condition_variable|std::mutex|std::(__basic_future|__future_base|future)"
    r"|std::(__\w+::)?basic_([io]?fstream|filebuf)|std::filesystem|\bstd::c(in|out|err|log)\b"
    r"|absl::(\w+::)?(Now|GetCurrentTimeNanos|Mutex|SleepFor)\b")
# Not correctly rounded, so the last bit depends on the library. sqrt, fma and the rounding
# functions are exact everywhere.
INEXACT = {base + suffix for suffix in ("", "f", "l") for base in """
exp exp2 exp10 expm1 log log2 log10 log1p pow sin cos tan sincos asin acos atan atan2 sinh cosh tanh
asinh acosh atanh cbrt hypot erf erfc tgamma lgamma j0 j1 jn y0 y1 yn
""".split()}


def undefined_symbols(archive):
    """{symbol: object file} of what the archive needs from elsewhere; symbols are demangled."""
    command = ["nm", "--demangle", "--format=posix", str(archive)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    needed, defined, member = {}, set(), archive.name
    for line in lines:
        header = re.match(r".*\[(.+)\]:$", line)
        if header:
            member = header[1]
            continue
        symbol = re.match(r"(.+) ([A-Za-z?])(?: [0-9a-fA-F]+)*\s*$", line)
        if not symbol:
            continue
        if symbol[2] in "Uwv":
            needed.setdefault(symbol[1], member)
        else:
            defined.add(symbol[1])
    return {name: member for name, member in needed.items() if name not in defined}


def impurity(symbol, exact):
    """Why a pure library must not need this symbol, or None."""
    if (symbol in IMPURE_C or symbol.startswith(IMPURE_PREFIXES) or IMPURE_CXX.search(symbol)):
        return "not pure"
    base = re.sub(r"^__(\w+?)_finite$", r"\1", symbol)
    if exact and base in INEXACT:
        return "its last bit differs between machines"
    return None


def has_sources(folder):
    """Whether the folder holds code that makes an archive."""
    return folder.is_dir() and any(not path.name.endswith(("_test.cc", "_fuzz.cc", "_bench.cc"))
                                   for path in folder.rglob("*.cc"))


def check_folder(folder, build, source):
    """The errors of one pure folder."""
    name = f"liblonghaul_{folder.replace('/', '_')}.a"
    archives = list(build.rglob(name))
    if not archives:
        missing = has_sources(source / folder)
        return [f"{folder}:1: {name} is not in {build}; build it first"] if missing else []
    errors = []
    for archive in archives:
        for symbol, member in sorted(undefined_symbols(archive).items()):
            reason = impurity(symbol, folder in EXACT)
            if reason:
                errors.append(f"{folder}/{member.removesuffix('.o')}:1: needs {symbol}: {reason}")
    return errors


def main():
    """Command line."""
    if len(sys.argv) not in (2, 3) or sys.argv[1] in ("-h", "--help"):
        print(__doc__.strip())
        sys.exit(0 if sys.argv[1:2] in (["-h"], ["--help"]) else 2)
    build = pathlib.Path(sys.argv[1])
    default = pathlib.Path(__file__).resolve().parent.parent
    source = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else default
    errors = [error for folder in FOLDERS for error in check_folder(folder, build, source)]
    for error in errors:
        print(error)
    sys.exit(1 if errors else 0)


if __name__ == "__main__":
    main()
