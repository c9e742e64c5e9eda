"""Delays as Postfix writes them: two significant digits, at most two decimals, no trailing zero."""

_HUNDREDTHS = tuple(f"{n / 100:.2f}".rstrip("0").rstrip(".") for n in range(101))
_TENTHS = tuple(f"{n / 10:.1f}".removesuffix(".0") for n in range(101))


def render_delay(delay_s: float) -> str:
    """`delay_s` as text, rounded half up; a negative one (the clock went back) is 0."""
    if delay_s < 1:
        return _HUNDREDTHS[int(delay_s * 100 + 0.5)] if delay_s > 0 else "0"
    if delay_s < 10:
        return _TENTHS[int(delay_s * 10 + 0.5)]
    return str(int(delay_s + 0.5))


def render_delays(delays_s: tuple[float, float, float, float]) -> str:
    """`delay=` and `delays=` of a delivery line; the first is the sum of the others."""
    a, b, c, d = delays_s
    if 0 <= a < 1 and 0 <= b < 1 and 0 <= c < 1 and 0 <= d < 1:
        table = _HUNDREDTHS  # the common case, without a call for each
        return (
            f"delay={render_delay(a + b + c + d)}, delays={table[int(a * 100 + 0.5)]}"
            f"/{table[int(b * 100 + 0.5)]}/{table[int(c * 100 + 0.5)]}/{table[int(d * 100 + 0.5)]}"
        )
    total = sum(delay for delay in delays_s if delay > 0)
    return f"delay={render_delay(total)}, delays=" + "/".join(map(render_delay, delays_s))
