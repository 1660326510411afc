#!/usr/bin/env python3
"""Checks that the simulator's histories do not depend on compiler or optimisation.

    tools/trace_equality.py BUILD_DIR [--seeds N] [--jobs N] [--compilers g++,clang++]

Builds `longhaul-fuzz-traces` below BUILD_DIR with each compiler at -O0 and at -O2, runs the same
seeds with each, and compares the trace hash over all of them. Exits 1 when they differ, 77 when
fewer than two compilers are there.
"""

import argparse
import json
import pathlib
import shutil
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
LEVELS = ("-O0", "-O2")


def run(*command):
    """Runs a command; its output is shown only when it fails."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\nfailed ({done.returncode}): {' '.join(map(str, command))}")


def build(folder, compiler, level, jobs):
    """The program built with this compiler at this level."""
    run("cmake", "-G", "Ninja", "-S", ROOT, "-B", folder, f"-DCMAKE_CXX_COMPILER={compiler}",
        f"-DCMAKE_CXX_FLAGS={level}", "-DCMAKE_BUILD_TYPE=None", "-DLONGHAUL_TORCH=OFF",
        "-DLONGHAUL_BENCH=OFF", "-DLONGHAUL_TESTS=OFF", *ccache())
    run("ninja", "-C", folder, f"-j{jobs}", "longhaul-fuzz-traces")
    return folder / "tests" / "longhaul-fuzz-traces"


def ccache():
    """The launcher, where there is one."""
    return ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []


def main():
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("--seeds", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--compilers", default="g++,clang++")
    args = parser.parse_args()
    compilers = [c for c in args.compilers.split(",") if shutil.which(c)]
    if len(compilers) < 2:
        print(f"needs two compilers of {args.compilers}")
        sys.exit(77)
    hashes = {}
    for compiler in compilers:
        for level in LEVELS:
            folder = args.build.resolve() / "trace_equality" / f"{compiler}{level}"
            program = build(folder, compiler, level, args.jobs)
            text = subprocess.run([program, str(args.seeds)], check=True, capture_output=True,
                                  text=True).stdout
            hashes[f"{compiler} {level}"] = json.loads(text)
            print(f"{compiler} {level}: {json.loads(text)['trace_hash']}", flush=True)
    first = next(iter(hashes.values()))
    sys.exit(0 if all(h == first for h in hashes.values()) else 1)


if __name__ == "__main__":
    main()
