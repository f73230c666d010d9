"""Results of other tools become runs like any other, and nothing that could be read is lost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from foreign import only, prediction, save, save_lines, single, three_rows, v1, v1_folder, v2
from hypothesis import given, settings
from hypothesis import strategies as st

from needle import analysis, figures, importing, store
from needle.errors import UsageError

# What cannot be read.

BAD = [
    v1(score=0),
    v1(score=11),
    v1(score=float("nan")),
    v1(score=True),
    v1(score="10"),
    v1(score=None),
    v1(score=[10]),
    v1(score=10**400),
    v1(depth=-1),
    v1(depth=100.5),
    v1(depth=float("inf")),
    v1(length=0),
    v1(length=10**18),
    v1(context_length=1000.5),
    v1(context_length={"a": 1}),
]


def test_rows_that_cannot_be_read_are_counted_and_named(tmp_path: Path) -> None:
    file = save(tmp_path / "m.json", [*BAD, v1(), "text", 3, None, [], {}])
    found = importing.read(file)
    assert [len(made.cells) for made in found.drafts] == [1]
    places = [f"row {n}" for n in [*range(1, len(BAD) + 1), *range(len(BAD) + 2, len(BAD) + 7)]]
    assert [row.place for row in found.unread] == places
    reasons = [row.reason for row in found.unread]
    assert reasons[:2] == ["score 0 is not within 1–10", "score 11 is not within 1–10"]
    assert "score is '10', no number" in reasons
    assert "context_length 1000.5 is no whole number" in reasons
    assert all(len(reason) < 120 and "\n" not in reason for reason in reasons)


def test_damaged_files_and_lines_are_named_and_the_rest_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    v1_folder(folder / "good", [v1()])
    (folder / "torn.json").write_text('{"model": "a", "context_')
    (folder / "latin.json").write_bytes(json.dumps(v1(), ensure_ascii=False).encode() + b"\xff")
    (folder / "deep.json").write_text("[" * 200_000)
    (folder / "digits.json").write_text("9" * 10_000)
    (folder / "other.json").write_text('{"a": 1}')
    (folder / "empty.jsonl").write_text("")
    lines = [
        json.dumps(v2()).encode(),
        b"\xfe\xff",
        b"",
        b"[" * 100_000,
        b"{",
        json.dumps(v2(status="ok", score=1)).encode(),
    ]
    (folder / "v2.jsonl").write_bytes(b"\n".join(lines))
    found = importing.read(folder)
    assert sum(len(made.cells) for made in found.drafts) == 2
    named = {f"{row.file.name} {row.place}".strip(): row.reason for row in found.unread}
    assert set(named) == {
        *("torn.json", "latin.json", "deep.json", "digits.json", "other.json", "empty.jsonl"),
        *("v2.jsonl line 2", "v2.jsonl line 4", "v2.jsonl line 5", "v2.jsonl line 6"),
    }
    assert (named["latin.json"], named["deep.json"]) == ("no UTF-8", "nested too deeply")
    assert named["v2.jsonl line 6"] == "no score"
    assert "none of" in named["other.json"]


def test_a_byte_order_mark_is_no_damage(tmp_path: Path) -> None:
    file = tmp_path / "m.json"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(v1()).encode())
    assert single(only(file, tmp_path / "runs")).score == 1.0


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=150)
@given(st.data())
def test_whatever_stands_in_a_field_is_a_run_or_a_refusal(data: st.DataObject) -> None:
    base, name = data.draw(
        st.sampled_from(
            [
                (v1(), "c.json"),
                ([v1()], "l.json"),
                (v2(), "v.jsonl"),
                (prediction(), "r.jsonl"),
                ({"score": 1, "details": [{"pred": "a", "answer": "a", "score": 1}]}, "Length5Depth5_a.json"),
            ]
        )
    )
    target = base[0] if isinstance(base, list) else base
    changed = {**target, data.draw(st.sampled_from(sorted(target))): data.draw(json_values)}
    with tempfile.TemporaryDirectory() as folder:
        file = save(Path(folder) / "in" / name, [changed] if isinstance(base, list) else changed)
        try:
            found = importing.read(file)
        except UsageError:
            return
        runs = [run for run, _ in importing.write(Path(folder), found)]
    for result in (result for run in runs for result in run.results):
        assert result.score is None or 0 <= result.score <= 1


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"form": "zzz"}, "unknown format 'zzz'"),
        ({"asked": importing.Asked(scale="0-5")}, "unknown scale '0-5'"),
        ({"form": "ruler"}, "holds no results that can be read"),
        ({"data": Path("/nowhere/at/all")}, "neither a file nor a folder"),
    ],
)
def test_requests_that_cannot_be_met(tmp_path: Path, how: dict[str, Any], message: str) -> None:
    folder = v1_folder(tmp_path / "in", [v1()])
    with pytest.raises(UsageError, match=message):
        importing.read(folder, **how)


def test_data_goes_with_ruler_only(tmp_path: Path) -> None:
    folder = v1_folder(tmp_path / "in", [v1()])
    with pytest.raises(UsageError, match="goes with RULER"):
        importing.read(folder, data=save_lines(tmp_path / "d.jsonl", [{"input": "a"}]))
    with pytest.raises(UsageError, match="holds no RULER data"):
        importing.read(folder, data=save_lines(tmp_path / "d.jsonl", [{"output": "a"}]))


def test_a_grid_that_nothing_could_draw_is_refused(tmp_path: Path) -> None:
    rows = [{"token_limit": 1 + n, "depth_percent": n / 6, "score": 1} for n in range(600)]
    with pytest.raises(UsageError, match="600 lengths × 600 depths × 1 repeats are 360000 cells"):
        importing.read(save(tmp_path / "m.json", rows))


# Runs as any other.


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return three_rows(tmp_path / "results")


def test_an_irregular_grid_is_the_union_and_what_is_not_measured_is_nan(source: Path, tmp_path: Path) -> None:
    run = only(source, tmp_path / "runs")
    frame, grid = analysis.frame(run.results), run.spec.grid
    table = analysis.grid(frame, lengths=grid.lengths, depths=grid.depths)
    assert table.shape == (2, 2)
    assert table.loc[0.0, 1000] == 1.0
    assert str(table.loc[1.0, 4000]) == "nan"
    summary = analysis.summary(run.results, run.spec, run.sessions[-1])
    # Another tool need not have measured a grid: what it did measure is all there is.
    assert (summary.asked, summary.done, summary.failed) == (3, 3, 0)
    assert run.status == "complete"
    assert summary.mean == pytest.approx((1 + 0 + 6 / 9) / 3)
    assert len(figures.heatmap(frame, "t", lengths=grid.lengths, depths=grid.depths).data) >= 2


def test_provenance_says_file_format_and_hash(source: Path, tmp_path: Path) -> None:
    import hashlib

    file = sorted(source.iterdir())[0]
    run = only(file, tmp_path / "runs")
    (session,) = run.sessions
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert (session["source"], session["format"], session["sha256"]) == (str(file), "kamradt", digest)
    assert run.sources == {"source": digest}


def test_importing_again_adds_nothing_and_goes_on_where_it_broke_off(source: Path, tmp_path: Path) -> None:
    root, found = tmp_path / "runs", importing.read(source)
    ((run, new),) = importing.write(root, found)
    before = {file.name: file.read_bytes() for file in run.folder.iterdir()}
    ((again, fresh),) = importing.write(root, importing.read(source))
    assert (new, fresh, again.folder) == (3, 0, run.folder)
    assert {file.name: file.read_bytes() for file in run.folder.iterdir()} == before
    rows = run.folder / "results.jsonl"
    rows.write_bytes(before["results.jsonl"][:-5])
    ((mended, left),) = importing.write(root, importing.read(source))
    assert (left, mended.results) == (1, run.results)
    assert len(store.folders(root)) == 1


def test_the_same_files_elsewhere_are_the_same_run_and_changed_ones_are_not(source: Path, tmp_path: Path) -> None:
    run = only(source, tmp_path / "runs")
    moved = source.rename(tmp_path / "moved")
    assert only(moved, tmp_path / "runs").folder == run.folder
    save(sorted(moved.iterdir())[0], v1(1000, 0, 9))
    assert only(moved, tmp_path / "runs").folder != run.folder
