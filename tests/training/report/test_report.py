"""The report of a result folder: all that was asked for stands in it, with its numbers, and it needs nothing else."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from models.errors import OperatorFault
from tests.training.report.made import make_result
from training.report import stimulated_map, thresholds
from training.report.parts import Number, stated
from training.report.result import Result
from training.report.summary import headline, overview, sentences, verdict
from training.report.table1 import best_rival
from training.report.write import write_report

DRAWN = {
    "scores-1", "differences-1", "labels-1", "roc", "reliability", "psychometric", "psychometric-state", "figure-2",
    "figure-3", "figure-3-distances", "figure-3-currents", "figure-4", "figure-4-areas", "figure-4-mixing",
    "reconstructions", "reconstruction-errors", "saliency", "pretraining",
}  # fmt: skip
SECTIONS = (
    "table-mixed", "rows", "compared", "labels", "calibration", "psychometric", "figure-2", "figure-3", "figure-4",
    "reconstructions", "saliency", "pretraining", "reading",
)  # fmt: skip


class Page(HTMLParser):
    """What of a page points somewhere, what is named, and the text of each section."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.sections: dict[str, str] = {}
        self._section = ""
        self.feed(file.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids.append(given.get("id") or "")
        if tag == "a":
            self.links.append(given.get("href") or "")
        else:
            self.loaded += [given[key] or "" for key in ("src", "href", "xlink:href", "srcset") if key in given]
        assert tag not in ("script", "link", "iframe", "object")
        if tag == "section":
            self._section = given.get("id") or "head"

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + " " + data.replace("\xa0", " ")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = make_result(tmp_path_factory.mktemp("result") / "evaluation")
    write_report(made)
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> Page:
    return Page(folder / "report.html")


def test_every_section_stands_and_the_contents_name_it(page: Page) -> None:
    assert tuple(name for name in page.ids if name in SECTIONS) == SECTIONS
    assert [link for link in page.links if link.startswith("#")] == [f"#{name}" for name in SECTIONS]


def test_each_plot_lies_beside_the_page_as_svg_and_as_rows(folder: Path, page: Page) -> None:
    files = {file.name for file in (folder / "figures").iterdir()}
    assert files == {f"{name}.{kind}" for name in DRAWN for kind in ("svg", "csv")} | {"numbers.json"}
    assert {link for link in page.links if not link.startswith("#")} == {
        f"figures/{name}.{kind}" for name in DRAWN for kind in ("svg", "csv")
    }
    for name in DRAWN:
        with (folder / "figures" / f"{name}.csv").open(newline="") as stream:
            head, *rows = csv.reader(stream)
        assert rows, name
        assert {len(row) for row in rows} == {len(head)}, name
        assert (folder / "figures" / f"{name}.svg").read_text().startswith("<svg ")


def test_the_page_needs_nothing_else(folder: Path, page: Page) -> None:
    text = (folder / "report.html").read_text()
    assert all(one.startswith(("#", "data:image/png;base64,")) for one in page.loaded)
    assert all(one.startswith("#") for one in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text
    named = [one for one in page.ids if one]
    assert len(set(named)) == len(named)


def test_a_projection_never_stands_without_its_numbers(page: Page) -> None:
    for name in ("figure-2", "figure-3", "figure-4"):
        assert "t-SNE" in page.sections[name]
        assert "labels shuffled [95 %]" in page.sections[name]
    assert "distance in the embedding with distance on the array" in page.sections["figure-3"]
    assert "silhouette" in page.sections["figure-4"]


def test_the_table_holds_the_results_numbers_with_their_intervals(folder: Path, page: Page) -> None:
    together = json.loads((folder / "result.json").read_text())["together"]["mixed"]
    for probe in ("prestimulus", "evoked"):
        rows = together["threshold"][probe]["rows"]["new sessions"]
        for name in ("raw_mua", "pca", "mae", "mae_place_slow", "supervised", "observer_window"):
            low, high = rows[name]["interval"]
            said = f"{100 * rows[name]['balanced_accuracy']:.1f} [{100 * low:.1f}, {100 * high:.1f}]"
            assert said.replace("-", "−") in page.sections["table-mixed"]
    test = json.loads((folder / "result.json").read_text())["participants"]["mixed-1"]["questions"]
    counted = test["threshold"]["evoked"]["compared"]["new sessions"]["mae - raw_mua"]["mcnemar"]
    other = json.loads((folder / "result.json").read_text())["participants"]["mixed-2"]["questions"]
    more = other["threshold"]["evoked"]["compared"]["new sessions"]["mae - raw_mua"]["mcnemar"]
    both = f"{counted['only_first'] + more['only_first']} {counted['only_second'] + more['only_second']}"
    assert both in re.sub(r"\s+", " ", page.sections["compared"])


# What is not there ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As of one person's threshold sessions, without controls: no observers, no looks, no curves, no few labels."""
    few = tmp_path_factory.mktemp("recorded") / "evaluation"
    shutil.copytree(folder, few)
    shutil.rmtree(few / "looks")
    shutil.rmtree(few / "training")
    for file in {*few.glob("*/*psychometric*.npz"), *few.glob("*/mixed-2*")}:
        file.unlink()
    result = json.loads((few / "result.json").read_text())
    del result["simulated"], result["participants"]["mixed-2"], result["together"]["mixed"]["psychometric"]
    del result["participants"]["mixed-1"]["questions"]["psychometric"]
    for probe in result["together"]["mixed"]["threshold"].values():
        probe["few_labels"] = {}
        for rows in probe["rows"].values():
            for name in [name for name in rows if name.startswith("observer") or name == "supervised"]:
                del rows[name]
    (few / "result.json").write_text(json.dumps(result | {"recorded": {"sessions": ["day1.nwb"]}}))
    write_report(few)
    return few


def test_what_is_missing_is_left_out_and_says_why(recorded: Path) -> None:
    page = Page(recorded / "report.html")
    for name, why in {
        "psychometric": "no psychometric sessions",
        "figure-3": "no psychometric sessions",
        "labels": "No fits to few labels",
        "reconstructions": "only with every control",
        "saliency": "only with every control",
        "pretraining": "with their runs",
    }.items():
        assert why in page.sections[name]
    assert "labels shuffled" in page.sections["figure-2"]
    assert "RECORDED" in page.sections[""]
    files = {file.stem for file in (recorded / "figures").glob("*.csv")}
    assert {"scores-1", "differences-1", "roc", "reliability", "figure-2", "figure-4"} <= files
    assert not files & {"labels-1", "psychometric", "figure-3", "reconstructions", "saliency", "pretraining"}


def test_drawn_again_it_is_the_same_and_nothing_old_stays(recorded: Path) -> None:
    before = (recorded / "report.html").read_bytes()
    (recorded / "figures" / "old.csv").write_text("left from another result")
    write_report(recorded)
    assert (recorded / "report.html").read_bytes() == before
    assert not (recorded / "figures" / "old.csv").exists()


def test_without_places_nothing_is_said_of_them(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "placeless")
    shutil.rmtree(tmp_path / "placeless" / "looks")
    part = stimulated_map.part(Result(tmp_path / "placeless"))
    assert "not known" in part.missing
    assert [one.name for one in part.drawn] == ["figure-3", "figure-3-currents"]


@pytest.mark.parametrize("text", [None, "{", '{"arms": {}}', "[]"])
def test_another_folder_is_refused(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "result.json").write_text(text)
    with pytest.raises(OperatorFault, match="phosphene evaluate"):
        write_report(tmp_path)
    assert not (tmp_path / "figures").exists()


# Words ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("against_pca", "against_rival", "said"),
    [
        ((0.01, 0.05), (0.01, 0.05), "better than raw MUA and PCA, and better than the best simple rival"),
        ((0.01, 0.05), (-0.02, 0.03), "better than raw MUA and PCA; a simple rival does as well"),
        ((0.01, 0.05), (-0.05, -0.01), "better than raw MUA and PCA; a simple rival does better"),
        ((-0.01, 0.05), (-0.05, -0.01), "no better than PCA; a simple rival does better"),
    ],
)
def test_the_headline_says_no_more_than_the_intervals(
    folder: Path, tmp_path: Path, against_pca: Any, against_rival: Any, said: str
) -> None:
    result = json.loads((folder / "result.json").read_text())
    numbers = result["together"]["mixed"]["threshold"]["prestimulus"]
    rival = best_rival(numbers["rows"]["new sessions"])
    compared = numbers["compared"]["new sessions"]
    for other in ("raw_mua", "pca"):
        compared[f"mae_served - {other}"]["interval"] = against_pca
    compared[f"mae_served - {rival}"]["interval"] = against_rival
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert headline(Result(tmp_path)).endswith(said)
    numbers["rows"]["new sessions"]["mae_served"]["interval"] = [0.49, 0.53]
    (tmp_path / "result.json").write_text(json.dumps(result))
    assert "not shown to know" in headline(Result(tmp_path))


def test_a_sentence_for_each_question_near_threshold(folder: Path) -> None:
    found = sentences(Result(folder))
    assert len(found) == 2
    assert all("2 participants" in one and "ideal observer" in one and "best simple rival" in one for one in found)


def test_many_groups_are_counted(folder: Path, tmp_path: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    worse = json.loads(json.dumps(result["together"]["mixed"]))
    for numbers in worse["threshold"].values():
        for found in numbers["compared"]["new sessions"].values():
            found["interval"] = [-0.03, -0.01]
    result["together"]["power"] = worse
    (tmp_path / "result.json").write_text(json.dumps(result))
    now, after = sentences(Result(tmp_path))
    assert "In 2 of 2 groups" in now
    assert "against PCA: ahead in 1, behind in 1" in now
    assert "the best simple rival: level in 1, behind in 1" in now
    assert after.startswith("Was it perceived?")
    assert overview(Result(tmp_path)).count("<tr><td>") == 4


@pytest.mark.parametrize(
    ("interval", "said"),
    [([0.1, 0.2], "better"), ([-0.2, -0.1], "worse"), ([-0.1, 0.1], "no difference shown"), (None, "not compared")],
)
def test_a_verdict_is_that_of_the_interval(interval: list[float] | None, said: str) -> None:
    assert verdict({"interval": interval}) == said
    assert verdict(None) == "not compared"


def test_numbers_are_stated_plainly() -> None:
    assert stated(0.6401, [0.612, 0.668], percent=True) == "64.0 % [61.2, 66.8]"
    assert stated(-0.0001, [-0.2, None]) == "0.00 [−0.20, ∞]"
    assert stated(None) == stated(float("nan")) == "–"
    assert Number("ρ", 0.5, None, 0.0, (-0.1, 0.1)).told() == ("0.50", "0.00 [−0.10, 0.10]")


def test_a_threshold_that_trials_leave_open_is_said_to_be(folder: Path) -> None:
    part = thresholds.part(Result(folder))
    assert "threshold, µA [95 %]".replace(" %", "\xa0%").replace(" [", "\xa0[") in part.tables[0]
    assert len(part.drawn) == 2
    ratio = part.drawn[1].numbers
    assert ratio["interval"][1] < 1  # made so that the state moves the threshold
