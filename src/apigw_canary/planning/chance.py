"""Exact draws, without approximations: what a judge promises about rare errors can be tested."""

from random import Random


def binomial(rng: Random, trials: int, probability: float) -> int:
    """How many of that many trials succeed.

    A trial succeeds if a uniform number lies below the probability. The two are compared bit by
    bit, from the top, for all trials at once: each bit decides about half of them. Exact, and about
    log2(trials) steps.
    """
    successes = 0
    while trials and probability:
        ones = rng.getrandbits(trials).bit_count()
        probability *= 2
        if probability >= 1:
            successes += trials - ones
            trials = ones
            probability -= 1
        else:
            trials -= ones
    return successes


def whole(rng: Random, mean: float) -> int:
    """A whole number next to `mean`, which is its mean."""
    return int(mean) + (rng.random() < mean % 1)


def divide(rng: Random, bad: int, arms: tuple[int, int], weights: tuple[float, float]) -> int:
    """How many of the `bad` requests are the second arm's, given each arm's number of requests.

    A request of an arm is bad in proportion to the arm's weight. With equal weights that is a
    random division of the same requests: hypergeometric.
    """
    first, second = arms
    for _ in range(bad):
        odds = second * weights[1]
        if rng.random() * (first * weights[0] + odds) < odds:
            second -= 1
        else:
            first -= 1
    return arms[1] - second
