"""How the commands write numbers."""

_UNITS = ("KiB", "MiB", "GiB", "TiB")


def seconds(milliseconds: float) -> str:
    """Return a duration as people read it: `3.1 ms`, `1.25 s`."""
    if milliseconds < 1000:
        return f"{milliseconds:,.1f} ms"
    return f"{milliseconds / 1000:,.2f} s"


def size(count_bytes: int) -> str:
    """Return a size as people read it: `512 bytes`, `1.2 MiB`."""
    if count_bytes < 1024:
        return f"{count_bytes} bytes"
    exponent = min((count_bytes.bit_length() - 1) // 10, len(_UNITS))
    return f"{count_bytes / 1024**exponent:,.1f} {_UNITS[exponent - 1]}"
