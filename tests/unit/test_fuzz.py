"""The fuzzer reads what is real with every parser, and tells what breaks one."""

from bench.fuzz import fuzz
from bench.fuzzed import Parser, parsers


async def test_what_is_real_is_no_find() -> None:
    tallies = await fuzz(parsers(), minutes=0, seed=7)
    assert {name: tally.odd for name, tally in tallies.items() if tally.odd} == {}
    assert all(tally.executions for tally in tallies.values())


async def test_what_breaks_a_parser_is_told_once_for_each_place() -> None:
    async def read(data: bytes) -> None:
        if data.startswith(b"a"):
            raise ValueError("its own")
        if data != b"b":
            raise KeyError("not its own")

    planted = Parser(name="planted", samples=[b"a", b"b", b"c", b"d"], read=read, own=(ValueError,))
    tally = (await fuzz([planted], minutes=0, seed=7))["planted"]
    assert (tally.executions, tally.refused, list(tally.odd.values())) == (4, 1, [b"c"])
    (place,) = tally.odd
    assert place.startswith("KeyError at ")
