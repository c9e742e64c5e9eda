"""Delays as Postfix writes them: two significant digits, at most two decimals, no trailing zero."""

DELAY_S_MAX = 1e9


def render_delay(delay_s: float) -> str:
    """`delay_s` as text, rounded half up; a negative one (the clock went back) is 0."""
    if not delay_s > 0:
        return "0"
    if delay_s >= 10:
        return str(int(min(delay_s, DELAY_S_MAX) + 0.5))
    if delay_s >= 1:
        return _decimal(int(delay_s * 10 + 0.5) * 10)
    return _decimal(int(delay_s * 100 + 0.5))


def _decimal(hundredths: int) -> str:
    return f"{hundredths // 100}.{hundredths % 100:02d}".rstrip("0").rstrip(".")


def render_delays(delays_s: tuple[float, float, float, float]) -> str:
    """`delay=` and `delays=` of a delivery line; the first is the sum of the others."""
    a, b, c, d = (delay if delay > 0 else 0.0 for delay in delays_s)
    return f"delay={render_delay(a + b + c + d)}, delays=" + "/".join(map(render_delay, delays_s))
