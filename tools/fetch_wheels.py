#!/usr/bin/env python3
"""Downloads, verifies and unpacks the wheels of tools/wheels.txt. Standard library only.

Each wheel is downloaded once into a cache (resumed where an earlier run stopped), checked against
its SHA-256 and unpacked into the target folder, which keeps the wheels' own layout: the libraries
find each other by relative paths. A stamp in the target names what is unpacked; a run that finds
nothing to do touches neither network nor disk.

exit codes: 0 ok, 1 failure, 2 usage
"""

import argparse
import configparser
import ctypes
import fcntl
import hashlib
import html.parser
import http.client
import os
import pathlib
import re
import shutil
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import zipfile

DEFAULT_INDEX = "https://pypi.org/simple"
STAMP = ".unpacked"
UNPACK_FACTOR = 2.5  # a wheel's size on disk by its size as a file: 2.4 measured for torch
SPARE_BYTES = 1_500_000_000  # room for the build itself
ATTEMPTS = 4
READ_BYTES = 1 << 20
TIMEOUT_S = 60


class Failure(Exception):
    """Ends the run; the text says what happened and what to try."""


class Wheel:
    """One line of wheels.txt."""

    def __init__(self, line):
        self.set, size, self.sha256, self.file = line.split()
        self.bytes = int(size)
        self.project = self.file.split("-")[0].replace("_", "-").lower()
        self.version = self.file.split("-")[1]
        self.stamp = f"{self.sha256}  {self.file}"


def read_wheels(path):
    """Every wheel of the list, in order."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return [Wheel(line) for line in lines if line.strip() and not line.startswith("#")]


def pip_setting(name, default=None):
    """pip's own setting: environment first, then its configuration files, the nearest first."""
    value = os.environ.get("PIP_" + name.upper().replace("-", "_"))
    if value:
        return value
    home = pathlib.Path.home()
    files = [os.environ.get("PIP_CONFIG_FILE"), home / ".config/pip/pip.conf",
             home / ".pip/pip.conf", "/etc/pip.conf"]
    for file in filter(None, files):
        parser = configparser.RawConfigParser()
        try:
            parser.read(file)
        except configparser.Error:
            continue
        for section in ("download", "install", "global"):
            if parser.has_option(section, name):
                return parser.get(section, name)
    return default


def open_url(url, offset=0):
    """An HTTP response from byte `offset` on."""
    headers = {"User-Agent": "longhaul-setup", "Accept": "text/html, */*;q=0.1"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
    certificates = pip_setting("cert")
    context = ssl.create_default_context(cafile=certificates) if certificates else None
    request = urllib.request.Request(url, headers=headers)
    return urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context)


class Links(html.parser.HTMLParser):
    """The targets of all links of a page."""

    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        if tag == "a":
            self.found += [value for key, value in attrs if key == "href" and value]


def find_url(wheel):
    """The wheel's address, from the page of its project on the package index."""
    index = pip_setting("index-url", DEFAULT_INDEX).rstrip("/")
    page_url = f"{index}/{wheel.project}/"
    with open_url(page_url) as response:
        page_url = response.geturl()
        text = response.read().decode("utf-8", "replace")
    links = Links()
    links.feed(text)
    for link in links.found:
        address = urllib.parse.urldefrag(urllib.parse.urljoin(page_url, link)).url
        name = urllib.parse.unquote(urllib.parse.urlparse(address).path.rsplit("/", 1)[-1])
        if name == wheel.file:
            return address
    raise Failure(f"{wheel.file} is not on the package index ({page_url})")


def stream(wheel, part):
    """One attempt: appends to `part` what is still missing."""
    offset = part.stat().st_size if part.exists() else 0
    response = open_url(find_url(wheel), offset)
    resumed = response.status == 206
    start = shown = time.monotonic()
    done = offset if resumed else 0
    first = done
    expected = done + int(response.headers.get("Content-Length", wheel.bytes - done))
    with response, open(part, "ab" if resumed else "wb") as out:
        while block := response.read(READ_BYTES):
            out.write(block)
            done += len(block)
            now = time.monotonic()
            if now - shown >= 1:
                shown = now
                rate = (done - first) / (now - start) / 1e6
                print(f"{wheel.project} {done // 1_000_000}/{wheel.bytes // 1_000_000} MB "
                      f"{rate:.0f} MB/s", flush=True)
    if done < expected:
        raise Failure(f"the connection ended after {done} of {expected} bytes")


def sha256_of(path):
    """Hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(READ_BYTES):
            digest.update(block)
    return digest.hexdigest()


def download_with_pip(wheel, cache):
    """The way out when the index needs what only pip can do (keyring, client certificate)."""
    tags = wheel.file[:-len(".whl")].split("-")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:",
               "--python-version", "3.11", "--implementation", "cp", "--abi", "cp311", "--abi",
               "none", "--dest", str(cache), f"{wheel.project}=={wheel.version}"]
    for platform in tags[-1].split("."):
        command[4:4] = ["--platform", platform]
    return subprocess.run(command, check=False).returncode == 0


def download(wheel, cache, pause_s):
    """The verified wheel's path in the cache."""
    path = cache / wheel.file
    part = cache / (wheel.file + ".part")
    if path.exists() and sha256_of(path) == wheel.sha256:
        return path
    reason = ""
    for attempt in range(ATTEMPTS):
        try:
            stream(wheel, part)
            if sha256_of(part) == wheel.sha256:
                part.replace(path)
                return path
            reason = "the hash is wrong"
            part.unlink()
        except (OSError, http.client.HTTPException, Failure) as error:
            reason = str(error)
            if getattr(error, "code", None) == 416:  # the partial file is longer than the wheel
                part.unlink(missing_ok=True)
        print(f"{wheel.file}: {reason}; attempt {attempt + 1} of {ATTEMPTS}", flush=True)
        time.sleep(pause_s * 2 ** attempt)
    if download_with_pip(wheel, cache) and path.exists() and sha256_of(path) == wheel.sha256:
        return path
    raise Failure(f"cannot download {wheel.file}: {reason}.\nPut the file into {cache} by hand, "
                  "set PIP_INDEX_URL to an index you can reach, or build without LibTorch: --lite")


def free_bytes(folder):
    """Free space where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free, folder.stat().st_dev


def check_space(wheels, cache, target):
    """Refuses before any byte is written."""
    loads = sum(w.bytes for w in wheels if not (cache / w.file).exists())
    unpacked = int(sum(w.bytes for w in wheels) * UNPACK_FACTOR) + SPARE_BYTES
    cache_free, cache_device = free_bytes(cache)
    target_free, target_device = free_bytes(target)
    if cache_device == target_device:
        needs = [(target, target_free, loads + unpacked)]
    else:
        needs = [(cache, cache_free, loads), (target, target_free, unpacked)]
    for folder, free, need in needs:
        if free < need:
            raise Failure(f"{folder}: {free / 1e9:.1f} GB free, {need / 1e9:.1f} GB needed "
                          "(download, unpacked files and the build)")


def unpacked_stamps(target, known):
    """What is unpacked. Wipes a folder of unknown or older content."""
    stamp = target / STAMP
    stamps = stamp.read_text(encoding="utf-8").splitlines() if stamp.exists() else []
    if (stamps and set(stamps) <= known) or not os.path.lexists(target):
        return stamps
    if target.is_symlink():
        target.unlink()
    else:
        shutil.rmtree(target)
    return []


def unpack(path, wheel, target):
    """Unpacks one wheel, then stamps it."""
    print(f"unpacking {wheel.project}", flush=True)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(target)
    with open(target / STAMP, "a", encoding="utf-8") as stamp:
        stamp.write(wheel.stamp + "\n")


def check_loads(target):
    """Proves that LibTorch finds its neighbours by the wheel's own layout."""
    library = target / "torch/lib/libtorch_cpu.so"
    try:
        ctypes.CDLL(str(library.resolve()))
    except OSError as error:
        (target / STAMP).unlink()
        raise Failure(f"{library} does not load: {error}") from error


def run(options):
    """Everything but the command line."""
    listed = read_wheels(options.list)
    sets = options.sets.split(",")
    wheels = [wheel for wheel in listed if wheel.set in sets]
    target = options.target
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / "setup.lock", "w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        present = unpacked_stamps(target, {wheel.stamp for wheel in listed})
        todo = [wheel for wheel in wheels if wheel.stamp not in present]
        if not todo:
            print("note: already there")
            return
        cache = options.cache
        check_space(todo, cache, target)
        cache.mkdir(parents=True, exist_ok=True)
        target.mkdir(exist_ok=True)
        for wheel in todo:
            unpack(download(wheel, cache, options.pause), wheel, target)
        check_loads(target)
        total = sum(wheel.bytes for wheel in todo)
        print(f"note: {total // 1_000_000} MB verified, unpacked and loadable; cache {cache}")


def main():
    """Command line."""
    here = pathlib.Path(__file__).resolve().parent
    cache_home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", default="cpu", help="sets of wheels.txt, with commas")
    parser.add_argument("--target", type=pathlib.Path, required=True, help="folder to unpack into")
    parser.add_argument("--list", type=pathlib.Path, default=here / "wheels.txt")
    parser.add_argument("--cache", type=pathlib.Path,
                        default=pathlib.Path(cache_home) / "longhaul/wheels")
    parser.add_argument("--pause", type=float, default=1.0,
                        help="seconds before the second attempt, doubled for each further one")
    try:
        run(parser.parse_args())
    except (Failure, OSError, zipfile.BadZipFile) as error:
        print(f"fetch_wheels: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
