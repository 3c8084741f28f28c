"""The report on a training file: what it finds, and that it hides what must not be spread."""

from __future__ import annotations

import json
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from corpus.errors import SheetRefused
from corpus.examination import Wishes, examine
from corpus.findings.answers import faults_of_answer
from corpus.findings.personal import PersonalFinder
from corpus.page.page import page_of
from corpus.review_sheet import DrawnRows, read_sheet
from corpus.sampling import drawn, sample_size

KEY = "AKIA" + "Q3EGRVCFXYZ2ABCD"
TOPICS = ("lid", "spout", "handle", "colour", "weight", "price", "box", "glaze", "strainer", "stand", "cosy", "cup")


def chat(question: str, answer: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


def good(count: int = 12) -> list[dict[str, Any]]:
    return [
        chat(
            f"What should I know about the {TOPICS[at % 12]} of pot {at}?",
            f"The {TOPICS[at % 12]} has number {at * 7}.",
        )
        for at in range(count)
    ]


def written(path: Path, rows: Sequence[object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_good_file_has_its_figures_and_nothing_to_look_at(tmp_path: Path) -> None:
    report = examine(written(tmp_path / "a.jsonl", good()), Wishes())
    assert (report.rows, report.format, report.turns.most, report.level) == (12, "chats", 2, "note")
    assert report.languages[0].name == "en"
    assert len(report.sample.lines) == 1


def test_repeats_leaks_and_poor_answers_are_found(tmp_path: Path) -> None:
    story = "Our teapot is made of red clay from the river bank, fired twice and glazed by hand in the old workshop."
    rows = [
        *good(),
        chat("Tell me about it.", story),
        chat("Tell me about it.", story),
        chat("Tell me about it.", story.replace("old workshop", "new workshop")),
        chat("What is the code?", "I'm sorry, but I can't help with that."),
        chat("And the weight?", "N/A"),
        chat(
            "How?",
            "First you warm the pot with hot water. Then you add the leaves and after that you should wait until",
        ),
    ]
    held_out = written(tmp_path / "valid.jsonl", [*good()[:2], chat(rows[5]["messages"][0]["content"], "Another one.")])
    report = examine(written(tmp_path / "a.jsonl", rows), Wishes(validation=held_out))
    assert (report.exact.rows, report.exact.groups[0].lines) == (1, [13, 14])
    assert (report.near.rows, report.near.groups[0].lines) == (1, [13, 15])
    assert {hits.kind: hits.lines for hits in report.answers} == {"refusing": [16], "empty": [17], "truncated": [18]}
    assert report.leaks is not None
    assert {leak.kind: leak.pairs for leak in report.leaks.found} == {"exact": [(1, 1), (2, 2)], "prompt": [(6, 3)]}


def test_secrets_are_found_and_never_shown(tmp_path: Path) -> None:
    secret = chat(
        f"My key is {KEY} and my card 4111 1111 1111 1111.", "Write to jo.doe@gmail.com, IBAN DE89370400440532013000."
    )
    report = examine(written(tmp_path / "a.jsonl", [*good(), secret]), Wishes())
    assert {hits.kind for hits in report.personal} == {"AWS Access Key", "card number", "email address", "IBAN"}
    assert all(hits.lines == [13] for hits in report.personal)
    for text in (report.model_dump_json(), page_of(report)):
        assert not any(value in text for value in (KEY, "4111 1111 1111", "jo.doe", "DE8937040044"))


@pytest.mark.parametrize(
    "text",
    ["Order 4111 1111 1111 1112", "info@example.com", "It costs 1,234,567 and 2024-05-06", "ISBN 978-3-16-148410-0"],
)
def test_numbers_that_are_nobodys_are_not_personal(text: str) -> None:
    assert PersonalFinder().find(text) == []


@pytest.mark.parametrize(
    ("answer", "faults"),
    [
        ("Yes", ()),
        ("positive", ()),
        ("I am sorry to hear that. Your pot is on its way.", ()),
        ("Sorry, I cannot assist with that request.", ("refusing",)),
        ("\u62b1\u6b49\uff0c\u6211\u65e0\u6cd5\u63d0\u4f9b\u8fd9\u4e2a\u3002", ("refusing",)),
        ("...", ("empty",)),
        ("```python\nprint(1)", ("truncated",)),
        ("a b c d " * 20, ("looping",)),
    ],
)
def test_poor_answers_are_told_from_good_ones(answer: str, faults: tuple[str, ...]) -> None:
    assert faults_of_answer(answer) == faults


def test_lines_with_a_fault_are_counted_by_reason(tmp_path: Path) -> None:
    rows = [*good(), {"messages": []}, {"messages": [{"role": "user", "content": "x"}]}, {"messages": []}]
    report = examine(written(tmp_path / "a.jsonl", rows), Wishes())
    assert [(hits.rows, hits.lines) for hits in report.faults] == [(2, [13, 15]), (1, [14])]
    assert (report.rows, report.level) == (12, "error")


def test_a_row_beyond_max_length_is_left_out_where_a_job_may_go_on_without_it(tmp_path: Path) -> None:
    long = chat("What is this?", "A teapot. " * 500)

    def too_long(others: int) -> str:
        path = written(tmp_path / f"{others}.jsonl", [*good(others), long])
        return next(each.text for each in examine(path, Wishes()).findings if "max_length" in each.text)

    assert too_long(12).startswith("1 row (line 13) has more than about 1,024 tokens")
    assert too_long(12).endswith("A job is refused unless max_length or most_unfit_rows is raised")
    assert too_long(99).endswith("A job leaves such rows out")


def test_a_plot_has_a_bar_for_each_number_of_turns(tmp_path: Path) -> None:
    longer = {"messages": good(1)[0]["messages"] * 2}
    report = examine(written(tmp_path / "a.jsonl", [*good(), longer]), Wishes())
    assert (report.turns.histogram.edges, report.turns.histogram.counts) == ([2.0, 3.0, 4.0, 5.0], [12, 0, 1])
    assert "<title>4 turns: 1 rows</title>" in page_of(report)


def test_pairs_ratings_and_texts_have_their_reports(tmp_path: Path) -> None:
    rated = [{**row, "label": at % 4 == 0} for at, row in enumerate(good())]
    balance = examine(written(tmp_path / "r.jsonl", rated), Wishes()).balance
    assert balance is not None
    assert [(each.name, each.rows) for each in balance.counts] == [("bad", 9), ("good", 3)]
    texts = [{"prompt": f"Review {TOPICS[at]} {at}: ", "completion": "good" if at < 11 else "bad"} for at in range(12)]
    report = examine(written(tmp_path / "t.jsonl", texts), Wishes())
    assert report.balance is not None
    assert (report.balance.of, report.format) == ("answer", "prompts with completions")
    assert any("92 % of the rows have the answer 'good'" in finding.text for finding in report.findings)


class _Page(HTMLParser):
    """Collects what a page would load, and its scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.outside: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.outside += [value or "" for name, value in attrs if name in ("src", "href")]


def test_the_page_stands_alone_and_takes_no_text_as_markup(tmp_path: Path) -> None:
    rows = [*good(), chat("<script>alert(1)</script>", "<img src=x onerror=alert(1)> " * 40)]
    page = _Page()
    page.feed(page_of(examine(written(tmp_path / "<b>.jsonl", rows), Wishes())))
    assert (page.outside, page.tags & {"script", "img", "link", "b"}) == ([], {"b"})
    assert "svg" in page.tags


@pytest.mark.parametrize(("rows", "size"), [(1, 1), (20, 1), (100, 5), (101, 6), (10_000, 500), (100_000, 500)])
def test_five_percent_are_reviewed_and_at_most_500(rows: int, size: int) -> None:
    assert sample_size(rows) == size
    assert drawn(range(1, rows + 1), 7) == drawn(range(1, rows + 1), 7)


def test_a_sheet_that_nobody_wrote_is_refused_with_what_writes_it(tmp_path: Path) -> None:
    with pytest.raises(SheetRefused, match="there is no such sheet; the same command without --sign writes it"):
        read_sheet(tmp_path / "a.review.csv", DrawnRows(sha256="0" * 64, seed=1, rows=1, texts={1: "a row"}))


@pytest.mark.corpus
def test_parts_in_processes_find_what_one_process_does(tmp_path: Path) -> None:
    rows = [
        chat(f"Question {at} about the {TOPICS[at % 12]}: " + "why? " * 80, f"Answer {at % 4000}. " * 30)
        for at in range(4200)
    ]
    path = written(tmp_path / "a.jsonl", rows)
    alone, together = (examine(path, Wishes(processes=count)) for count in (1, 2))
    same = {"seconds": 0.0}
    assert together.model_copy(update=same) == alone.model_copy(update=same)
