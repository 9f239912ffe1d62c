"""What 429s come of, in the same words on the live line and in `status`."""

from __future__ import annotations


def format_causes_of_429s(limited_per_s: float | None, noise_share: float | None) -> list[str]:
    """A phrase for each cause. `limited_per_s`: requests or creates a second that the API allows, where that is less
    than was set; `noise_share`: of the requests, those that are answered 429 whatever our rate."""
    causes = []
    if limited_per_s is not None:
        causes.append(f"rate limited by the API at {limited_per_s:.3g}/s")
    if noise_share is not None:
        causes.append(f"429s that don't depend on our rate ({100 * noise_share:.2g} %)")
    return causes
