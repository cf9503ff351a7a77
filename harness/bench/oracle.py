"""The fastest tests there are, told what no judge can know: the effect, and the noise."""

import math

import numpy as np

from harness.bench.opponents import ALPHA, arms, first
from harness.bench.streams import Stream
from harness.bench.subject import Times

SPRT, NOISY_SPRT = "SPRT that knows the effect", "SPRT that knows effect and noise"


def oracle(stream: Stream, *, odds: float, noise: float = 0.0, base: float = 0.01) -> Times:
    """Return when a sequential probability ratio test stops that was told the effect: `odds` times the errors.

    Conditional on both arms' errors, it asks whether the candidate has its share of them or `odds` times as
    many. With `noise`, the true long-run variance of two arms' difference in log error rate, it divides each
    interval's evidence by the factor by which that noise inflates it: the test that knows the noise, too.
    """
    candidate, baseline = arms(stream)
    bad_c, bad_b = candidate.bad[..., 0], baseline.bad[..., 0]
    n_c, n_b = candidate.n[..., 0], baseline.n[..., 0]
    share = np.where(n_c + n_b > 0, n_c / np.maximum(n_c + n_b, 1), 0.5)
    evidence = bad_c * math.log(odds) - (bad_c + bad_b) * np.log1p(share * (odds - 1))
    if noise:
        weight = n_c * n_b / np.maximum(n_c + n_b, 1) * base * (1 + odds) / 2
        evidence /= 1 + 0.75 * noise * weight
    return first(np.cumsum(evidence, axis=0) >= -math.log(ALPHA), 1)
