"""A part of larger work moves the whole by its share."""

from __future__ import annotations

from toolkit.progress import part, silent


def test_parts_fill_the_whole_one_after_the_other() -> None:
    seen: list[tuple[float, float, str]] = []
    whole = lambda done, total, words: seen.append((done, total, words))  # noqa: E731
    part(whole, 0, 30, 100)(15, 15, "first")
    part(whole, 30, 100, 100)(1, 2, "second")
    assert seen == [(30, 100, "first"), (65, 100, "second")]


def test_a_part_never_passes_its_end_and_an_empty_one_is_done() -> None:
    seen: list[float] = []
    whole = lambda done, total, words: seen.append(done)  # noqa: E731
    part(whole, 0, 10, 20)(99, 1, "")
    part(whole, 10, 20, 20)(0, 0, "")
    assert seen == [10, 20]


def test_silence_takes_anything() -> None:
    silent(1, 2, "words")
