"""Numbers of channels and neurons that matrix products are fast with.

A product with 303 columns takes 1.7 times as long as one with 304 (float32, AVX2): kernels work on whole
vectors. So smaller towers have multiples of `STEP`, wherever their size can still be met.
"""

STEP = 8  # floats of an AVX2 vector; halves and int8 values divide theirs likewise
TOLERANCE = 0.004  # of the size wanted, that rounding may cost; 0.005 is promised


def rounded(count: int, *, most: int) -> int:
    """The nearest multiple of `STEP` from `STEP` to `most`; `most` itself stays."""
    if count >= most:
        return most
    return min(max(STEP, STEP * round(count / STEP)), most)


def rounded_down(count: int, *, most: int) -> int:
    """The largest multiple of `STEP` up to a count; `most` itself stays."""
    return most if count >= most else count - count % STEP
