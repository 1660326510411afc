#!/usr/bin/env python3
"""Reads our event files with TensorBoard's own loader and compares every value.

usage: check_events.py PROGRAM     (PROGRAM is the built tensorboard_sample)

Exit code 77 when tensorboard cannot be imported, which ctest shows as skipped.
"""
import os
import subprocess
import sys
import tempfile

SKIPPED = 77
STEPS = 300


def load(folder):
    """All events by EventFileLoader, and the scalars by EventAccumulator."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (name,) = os.listdir(folder)
    events = list(EventFileLoader(os.path.join(folder, name)).Load())
    accumulator = EventAccumulator(folder, size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return events, accumulator


def scalars(accumulator, tag):
    """(wall time, step, value) of one tag; newer loaders turn simple values into tensors."""
    if tag in accumulator.Tags()["scalars"]:
        return [(e.wall_time, e.step, e.value) for e in accumulator.Scalars(tag)]
    return [(e.wall_time, e.step, e.tensor_proto.float_val[0]) for e in accumulator.Tensors(tag)]


def check(events, accumulator):
    assert events[0].file_version == "brain.Event:2", events[0]
    assert len(events) == 1 + 2 * STEPS, len(events)
    loss = scalars(accumulator, "loss/train")
    assert len(loss) == STEPS, len(loss)
    for step, (wall_time, got_step, value) in enumerate(loss):
        assert got_step == step and wall_time == 1700000000.5 + step, (step, got_step, wall_time)
        assert abs(value - 5.0 / (step + 1)) < 1e-6, (step, value)
    tokens = scalars(accumulator, "tokens")
    assert [value for _, _, value in tokens] == [1024.0 * step for step in range(STEPS)]


def main():
    if len(sys.argv) != 2:
        print(__doc__)
        return 2
    try:
        import tensorboard
    except ImportError as error:
        print(f"skipped: {error} (pip install tensorboard)")
        return SKIPPED
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        check(*load(os.path.join(folder, "events")))
    print(f"tensorboard {tensorboard.__version__} reads {2 * STEPS} scalars as written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
