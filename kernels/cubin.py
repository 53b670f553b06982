"""What a compiled kernel needs, read from its cubin: an ELF file, so neither GPU nor driver.

NVIDIA does not document the attributes. Those read here agree with the assembler's own report
(`ptxas -v`) on every architecture tried; the tests compare the two.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from ..errors import MutoscopeError

_REGISTERS, _STACK = 0x2F, 0x12
_VALUE_FOLLOWS = 4
_FUNCTION = 2
_NO_CONTENTS = 8


@dataclass(frozen=True)
class Resources:
    """What one kernel needs of a multiprocessor.

    Attributes:
        registers: of 32 bits, a thread.
        shared: bytes of shared memory a block; from sm_90 on, 1024 of them are the system's own.
        stack: bytes of local memory a thread, of the functions it calls too: spilled registers, and
            arrays that registers cannot hold.
    """

    registers: int
    shared: int
    stack: int


def read_resources(cubin: bytes) -> dict[str, Resources]:
    """The needs of every kernel in a cubin, by name.

    Raises:
        MutoscopeError: not a cubin.
    """
    if cubin[:5] != b"\x7fELF\x02":
        raise MutoscopeError("not a cubin: it does not begin as a 64-bit ELF file does")
    sections = _sections(cubin)
    names = _functions(sections[".symtab"], sections[".strtab"])
    found: dict[int, dict[str, int]] = {}
    for attribute, value in _attributes(sections[".nv.info"]):
        symbol, number = struct.unpack("<II", value)
        found.setdefault(attribute, {})[names.get(symbol, "")] = number
    return {
        name: Resources(
            registers=registers,
            shared=len(sections.get(f".nv.shared.{name}", b"")),
            stack=found[_STACK][name],
        )
        for name, registers in sorted(found[_REGISTERS].items())
    }


def _sections(elf: bytes) -> dict[str, bytes]:
    """By name; a section without contents in the file is as many zeros."""
    (table,) = struct.unpack_from("<Q", elf, 40)
    each, count, names_at = struct.unpack_from("<HHH", elf, 58)
    headers = [struct.unpack_from("<IIQQQQ", elf, table + i * each) for i in range(count)]
    names = headers[names_at][4]
    return {
        elf[names + name : elf.index(b"\0", names + name)].decode(): (
            bytes(size) if kind == _NO_CONTENTS else elf[offset : offset + size]
        )
        for name, kind, _, _, offset, size in headers
    }


def _functions(symbols: bytes, names: bytes) -> dict[int, str]:
    """Names of the functions among the symbols, by index."""
    return {
        index: names[name : names.index(b"\0", name)].decode()
        for index, (name, info) in enumerate(struct.iter_unpack("<IB19x", symbols))
        if info & 15 == _FUNCTION
    }


def _attributes(info: bytes) -> Iterator[tuple[int, bytes]]:
    """The attributes of registers and stacks: (number, symbol and value)."""
    at = 0
    while at < len(info):
        form, attribute, size = struct.unpack_from("<BBH", info, at)
        at += 4
        if form != _VALUE_FOLLOWS:
            continue
        if attribute in (_REGISTERS, _STACK):
            yield attribute, info[at : at + size]
        at += size
