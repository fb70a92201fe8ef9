"""A pytest plugin: nbval also compares the figures of a notebook with the stored ones, pixel by pixel.

nbval itself passes over them. A figure is the same if it has the same size and no channel of a pixel is off by more
than `GREY_LEVELS`: another processor may draw the edge of a line a grey level lighter, and no eye sees that.
"""

import base64
import io

import numpy as np
from nbval.plugin import IPyNbCell
from PIL import Image

GREY_LEVELS = 2  # of 255


def figures(outputs):
    """The PNG images among a cell's outputs, in order, in base64."""
    return [output["data"]["image/png"] for output in outputs if "image/png" in output.get("data", {})]


def pixels(png):
    """The decoded image: an array of shape (height, width, 4), integers from 0 to 255."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA"), dtype=int)


def difference(stored, drawn):
    """How two lists of figures differ, in one sentence; None if they are the same."""
    if len(stored) != len(drawn):
        return f"{len(stored)} figures are stored, {len(drawn)} were drawn"
    for before, after in zip(map(pixels, stored), map(pixels, drawn), strict=True):
        if before.shape != after.shape:
            return f"a figure of {before.shape[1]} x {before.shape[0]} pixels is {after.shape[1]} x {after.shape[0]}"
        off = abs(before - after).max(axis=-1)
        if off.max() > GREY_LEVELS:
            return f"{(off > GREY_LEVELS).sum()} pixels of a figure differ, by up to {off.max()} grey levels"
    return None


def pytest_configure(config):
    compare = IPyNbCell.compare_outputs

    def compare_outputs(cell, test, ref, skip_compare=None):
        same = compare(cell, test, ref, skip_compare)
        if sentence := difference(figures(ref), figures(test)):
            cell.comparison_traceback.append(f"{sentence}. If the new figure is right: make execute.")
            return False
        return same

    IPyNbCell.compare_outputs = compare_outputs
