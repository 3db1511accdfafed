"""As much of Protocol Buffers as docs/nucleus.proto takes: varints, and octets with a length."""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
VARINT_BITS = 64

Value = int | bytes


class DecodeError(Exception):
    """These octets are no message."""


def varint(value: int) -> bytes:
    """A number: 7 bits an octet, the lowest first."""
    made = bytearray()
    while value > 0x7F:
        made.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*made, value])


def field(number: int, value: int | bytes | str, always: bool = False) -> bytes:
    """A field. What is 0 or empty is left out, as proto3 does, unless it is `always` there."""
    if isinstance(value, str):
        value = value.encode()
    if not value and not always:
        return b""
    if isinstance(value, int):
        return varint(number << 3 | VARINT) + varint(value)
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def read_varint(octets: bytes, at: int) -> tuple[int, int]:
    """A number, and where it ends."""
    value = 0
    for shift in range(0, VARINT_BITS + 6, 7):
        if at >= len(octets):
            break
        value |= (octets[at] & 0x7F) << shift
        at += 1
        if octets[at - 1] < 0x80:
            if value >> VARINT_BITS:
                break
            return value, at
    raise DecodeError("a number has no end")


def fields(octets: bytes) -> Iterator[tuple[int, Value]]:
    """All fields in their order. Raises DecodeError."""
    at = 0
    while at < len(octets):
        key, at = read_varint(octets, at)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, at = read_varint(octets, at)
            yield number, value
            continue
        if wire == LENGTH:
            length, at = read_varint(octets, at)
        elif wire in (FIXED32, FIXED64):
            length = 4 if wire == FIXED32 else 8
        else:
            raise DecodeError(f"wire type {wire}")
        if at + length > len(octets):
            raise DecodeError("a field is cut off")
        yield number, octets[at : at + length]
        at += length


class Message:
    """A message that was read. Unknown fields are there and mean nothing."""

    def __init__(self, octets: bytes) -> None:
        self.all = list(fields(octets))

    def number(self, field_number: int) -> int:
        """A number, 0 where it is not there. Of several the last one holds."""
        found = [value for number, value in self.all if number == field_number]
        if found and not isinstance(found[-1], int):
            raise DecodeError(f"field {field_number} is no number")
        return int(found[-1]) if found else 0

    def many(self, field_number: int) -> list[bytes]:
        """All octets of a repeated field."""
        found = [value for number, value in self.all if number == field_number]
        if not all(isinstance(value, bytes) for value in found):
            raise DecodeError(f"field {field_number} has no length")
        return found  # type: ignore[return-value]

    def octets(self, field_number: int) -> bytes:
        """Octets, none where the field is not there."""
        found = self.many(field_number)
        return found[-1] if found else b""

    def has(self, field_number: int) -> bool:
        """Whether the field is there."""
        return any(number == field_number for number, _ in self.all)
