"""Sizes and durations, from people's notation and back. IEC units for bytes (KiB = 1024); SI for seconds."""

from __future__ import annotations

import math
import re

from toolkit.errors import UsageError

__all__ = ["bytes_text", "duration_text", "parse_bytes", "parse_duration_s", "rate_text"]

_BYTES = {"": 1, "b": 1}
for _power, _letter in enumerate("kmgt", start=1):
    _BYTES[f"{_letter}ib"] = _BYTES[_letter] = 1024**_power
    _BYTES[f"{_letter}b"] = 1000**_power
_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_NUMBER = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([A-Za-zµ]*)\s*")


def parse_bytes(text: str) -> int:
    """Bytes from ``256MiB``, ``4KiB``, ``4k`` (1024) or ``1GB`` (1000 ** 3).

    Raises
    ------
    UsageError
        If the text is no size, or not a whole positive number of bytes.

    Examples
    --------
    >>> parse_bytes("256MiB"), parse_bytes("4k"), parse_bytes("1MB")
    (268435456, 4096, 1000000)
    """
    value = _parse(text, _BYTES, "size", "4096, 4KiB, 256MiB, 1GiB", fold=True)
    if not math.isfinite(value) or value != int(value) or value < 1:
        raise UsageError(f"{text!r} is not a whole number of bytes above zero", "Write a size such as 4KiB or 256MiB.")
    return int(value)


def parse_duration_s(text: str) -> float:
    """Seconds from ``100ms``, ``60s``, ``5m``, ``1.5h``; a bare number is seconds.

    Raises
    ------
    UsageError
        If the text is no duration or not above zero.

    Examples
    --------
    >>> parse_duration_s("100ms"), parse_duration_s("5m")
    (0.1, 300.0)
    """
    value = _parse(text, _SECONDS, "duration", "100ms, 60s, 5m, 1h", fold=False)
    if not value > 0 or not math.isfinite(value):
        raise UsageError(f"{text!r} is not a duration above zero", "Write a duration such as 100ms or 60s.")
    return value


def _parse(text: str, units: dict[str, int] | dict[str, float], noun: str, examples: str, *, fold: bool) -> float:
    match = _NUMBER.fullmatch(text)
    unit = "?" if match is None else match[2].lower() if fold else match[2]
    if match is None or unit not in units:
        raise UsageError(f"{text!r} is not a {noun}", f"Write it as one of: {examples}.")
    return float(match[1]) * units[unit]


def bytes_text(count: float) -> str:
    """Write a count of bytes as people do.

    Examples
    --------
    >>> bytes_text(4096), bytes_text(256 * 2**20), bytes_text(1500)
    ('4 KiB', '256 MiB', '1.46 KiB')
    """
    size, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if abs(size) < 1024:
            break
        size, unit = size / 1024, larger
    return f"{_three_digits(size)} {unit}"


def rate_text(bytes_per_second: float) -> str:
    """Write a rate in decimal units, as disks and networks are sold.

    Examples
    --------
    >>> rate_text(10_240), rate_text(530e6)
    ('10.2 kB/s', '530 MB/s')
    """
    rate, unit = float(bytes_per_second), "B/s"
    for larger in ("kB/s", "MB/s", "GB/s", "TB/s"):
        if abs(rate) < 999.5:
            break
        rate, unit = rate / 1000, larger
    return f"{_three_digits(rate)} {unit}"


def duration_text(seconds: float) -> str:
    """Write a duration in the unit that leaves one to three digits before the point.

    Examples
    --------
    >>> duration_text(0.00031), duration_text(8.6), duration_text(754)
    ('310 µs', '8.6 s', '12 min 34 s')

    Of zero nobody can say how finely it was measured: "0 ns" would.

    >>> duration_text(0.0)
    '0 s'
    """
    size = abs(seconds)
    if size == 0:
        return "0 s"
    if size >= 120:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s"
    for scale, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")):
        if size >= scale * 0.9995:
            return f"{_three_digits(seconds / scale)} {unit}"
    return f"{_three_digits(seconds * 1e9)} ns"


def _three_digits(value: float) -> str:
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = max(0, 2 - math.floor(math.log10(abs(value))))
    text = f"{value:.{min(decimals, 3)}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text
