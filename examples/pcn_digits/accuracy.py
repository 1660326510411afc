#!/usr/bin/env python3
"""Share of held-out digits that a network of Relay blocks names rightly.

    accuracy.py BLOCKS IMAGES [SIZES]

BLOCKS: folder that stages wrote with --output. IMAGES: folder with the IDX digits. SIZES: of input,
hidden layers and output (those of longhaul pcn relay). Held out is fold 0 of five.
"""

import array
import gzip
import math
import operator
import pathlib
import sys

SIZES = [784] + 7 * [256] + [10]
FOLDS = 5


def idx(path, header):
    """The bytes after the header of an IDX file."""
    return gzip.decompress(path.read_bytes())[header:]


def held_out(folder):
    """Images and labels of fold 0."""
    images, labels = b"", b""
    for part in ("train", "test"):
        images += idx(folder / f"mnist8k-{part}-images-idx3-ubyte.gz", 16)
        labels += idx(folder / f"mnist8k-{part}-labels-idx1-ubyte.gz", 8)
    pixels = len(images) // len(labels)
    for i in range(0, len(labels), FOLDS):
        yield [v / 127.5 - 1 for v in images[i * pixels:(i + 1) * pixels]], labels[i]


def layers(folder, sizes):
    """Weights (rows) and biases of every layer."""
    values = array.array("f")
    for block in sorted(folder.glob("block-*.bin")):
        values.frombytes(block.read_bytes())
    if len(values) != sum((a + 1) * b for a, b in zip(sizes, sizes[1:])):
        sys.exit(f"{folder}: not the blocks of a network of sizes {sizes}")
    at = 0
    for ins, outs in zip(sizes, sizes[1:]):
        rows = [values[at + r * ins:at + (r + 1) * ins] for r in range(outs)]
        at += ins * outs
        yield rows, values[at:at + outs]
        at += outs


def gelu(x):
    """x times the share of a standard normal below x."""
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


def main():
    """Command line."""
    if len(sys.argv) not in (3, 4):
        print(__doc__.strip())
        sys.exit(2)
    sizes = [int(n) for n in sys.argv[3].split(",")] if len(sys.argv) == 4 else SIZES
    network = list(layers(pathlib.Path(sys.argv[1]), sizes))
    right = count = 0
    for state, label in held_out(pathlib.Path(sys.argv[2])):
        for depth, (rows, biases) in enumerate(network):
            state = [sum(map(operator.mul, row, state)) + b for row, b in zip(rows, biases)]
            if depth + 1 < len(network):
                state = [gelu(x) for x in state]
        right += max(range(len(state)), key=state.__getitem__) == label
        count += 1
    print(f"{sys.argv[1]}: {100 * right / count:.2f} % of {count} held-out digits")


if __name__ == "__main__":
    main()
