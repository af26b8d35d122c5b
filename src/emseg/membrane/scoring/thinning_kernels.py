"""The compiled loop of the border thinning: cells grow into the membrane until they meet."""

import numba
import numpy as np

LINE = 0
"""Label of a pixel on a line between two cells."""

OPEN = -2
"""Label of a membrane pixel that the flood has not reached."""

_QUEUED = -3


@numba.njit(nogil=True, cache=True)
def flood(image, offsets, starts, ends, queue):  # type: ignore[no-untyped-def]
    """Let all cells grow into the OPEN pixels at one speed; where two meet, a LINE of one pixel stays.

    Soille and Vincent's flooding of one plateau, over 4 neighbours, first in first out. The image is turned, [column,
    row], and framed by one pixel of WALL. So the first pixels of the queue, those beside a cell, column by column, lie
    in memory in the order in which they are queued, and no neighbour need be looked for beyond the frame. The runs are
    those of the cells; only the gaps between them are open. `queue` has a place for each open pixel.
    """
    stride = image.shape[1]
    flat = image.reshape(-1)
    steps = (-stride, -1, stride, 1)  # left, above, right, below in the image as it stands upright
    n = 0
    for row in range(len(offsets) - 1):
        line = (row + 1) * stride + 1
        gap = np.int64(0)
        for run in range(offsets[row], offsets[row + 1] + 1):
            gap_end = np.int64(starts[run] if run < offsets[row + 1] else stride - 2)
            for place in range(line + gap, line + gap_end):
                if flat[place - stride] > 0 or flat[place - 1] > 0 or flat[place + stride] > 0 or flat[place + 1] > 0:
                    flat[place] = _QUEUED
                    queue[n] = place
                    n += 1
            if run < offsets[row + 1]:
                gap = np.int64(ends[run])
    head = 0
    while head < n:
        place = int(queue[head])
        head += 1
        own = np.int32(_QUEUED)
        from_line = False
        for step in steps:
            other = flat[place + step]
            if other > 0:
                if own == _QUEUED or (own == LINE and from_line):
                    own = other
                elif own > 0 and own != other:
                    own = np.int32(LINE)
                    from_line = False
            elif other == LINE:
                if own == _QUEUED:
                    own = np.int32(LINE)
                    from_line = True
            elif other == OPEN:
                flat[place + step] = _QUEUED
                queue[n] = place + step
                n += 1
        flat[place] = own
