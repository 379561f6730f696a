"""The page as text: what it escapes, forbids and holds. `tests/e2e/test_report.py` opens it."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from rich.console import Console

from pipeline.dataset import mp4
from pipeline.report.base import ClipEntry
from pipeline.report.card import card_text, plain
from pipeline.report.gallery import AS_IT_IS_BYTES, WIDTH, previews
from pipeline.report.good_clips.meanings import meaning
from pipeline.report.page import render
from pipeline.report.pricing.prices import Prices
from pipeline.report.text import print_report
from pipeline.scoring.registry import load_scorers
from pipeline.storage.storage import Storage
from tests.pipeline.report.good_clips.scored_rows import record, scored
from tests.pipeline.report.hostile import PROMPTS
from tests.pipeline.report.made import measure, row, write
from tests.property_examples import examples


class Reader(HTMLParser):
    """Collects elements and scripts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._script: dict[str, str | None] | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
            self._script = None


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    rows = []
    for number, prompt in enumerate(PROMPTS):
        made = row(number, labels=prompt[:50]) | {"caption": prompt, "source_key": prompt[:80]}
        made |= {
            "scores": [{"name": prompt[:40], "value": None}],
            "scorers": [prompt[:40]],
            "scores_missing": prompt,
            "score_s": 1.0,
        }
        failed = row(100 + number, status="failed") | {
            "caption": prompt,
            "error_type": prompt[:60],
            "error_message": prompt,
        }
        rows += [made, failed]
    report = measure(write(tmp_path_factory.mktemp("hostile"), rows), Prices())
    return render(report, {}), report


def test_hostile_texts_make_no_element_and_no_script(hostile: tuple[str, Any]) -> None:
    page, report = hostile
    reader = Reader()
    reader.feed(page)
    assert {tag for tag, _ in reader.tags}.isdisjoint({"img", "iframe", "object", "a b"})
    drawn = [attrs for tag, attrs in reader.tags if tag == "svg"]
    assert all(attrs.keys() == {"role", "aria-label", "height"} for attrs in drawn)
    assert len(drawn) == page.count('class="chart"')
    handlers = [name for _, attrs in reader.tags for name in attrs if name.startswith("on")]
    assert handlers == []
    assert len([tag for tag, _ in reader.tags if tag == "script"]) == 2
    assert len(report.failures) == len({prompt[:60] for prompt in PROMPTS})


def test_the_policy_allows_one_script_and_no_network(hostile: tuple[str, Any]) -> None:
    page, _ = hostile
    reader = Reader()
    reader.feed(page)
    (policy,) = [
        str(attrs["content"])
        for tag, attrs in reader.tags
        if tag == "meta" and attrs.get("http-equiv") == "Content-Security-Policy"
    ]
    assert "default-src 'none'" in policy
    assert "http" not in policy
    allowed = set(re.findall(r"'sha256-([^']+)'", policy))
    code = [text for attrs, text in reader.scripts if attrs.get("type") is None]
    hashes = {base64.b64encode(hashlib.sha256(t.encode()).digest()).decode() for t in code}
    assert hashes == allowed
    assert len(hashes) == 1
    for _, attrs in reader.tags:
        for name in ("src", "href", "poster", "srcset", "action"):
            value = attrs.get(name) or ""
            assert value.startswith(("#", "data:", "../media/")) or not value


def test_previews_are_small_and_playable_and_lost_media_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    storage = Storage(str(tmp_path))
    noise = rng.integers(0, 256, (12, 128, 512, 3), dtype=np.uint8)
    grey = np.full((9, 64, 64, 3), 90, np.uint8)
    clips = []
    for name, frames in (("big", noise), ("small", grey)):
        mp4.write(frames, 8, {"sample_id": name}, tmp_path / f"{name}.mp4")
        clips.append(clip(name, f"{name}.mp4"))
    found = previews(storage, [*clips, clip("lost", "lost.mp4")])
    assert set(found) == {"big", "small"}
    big = base64.b64decode(found["big"].video.partition(",")[2])
    assert len((tmp_path / "big.mp4").read_bytes()) > AS_IT_IS_BYTES > 0
    assert mp4.decode(big).shape == (12, 80, WIDTH, 3)
    assert (
        base64.b64decode(found["small"].video.partition(",")[2])
        == (tmp_path / "small.mp4").read_bytes()
    )
    assert found["big"].poster.startswith("data:image/jpeg;base64,")


def clip(name: str, path: str) -> ClipEntry:
    return ClipEntry(
        sample_id=name,
        caption="c",
        path=path,
        model="m",
        seed=0,
        policy="none",
        nfe=1,
        steps=1,
        wall_s=1.0,
    )


def test_the_page_says_in_a_sentence_what_plans_promised_and_controls_measured(
    tmp_path: Path,
) -> None:
    clip, control = row(0, psnr=None), row(0, control=True, psnr=40.0)
    clip["cache"]["promised_error"] = 0.01
    without = render(measure(write(tmp_path / "without", [clip, control]), Prices()), {})
    control["quality"]["latent_error"] = 0.0125
    page = render(measure(write(tmp_path / "with", [clip, control]), Prices()), {})
    said = re.sub(r"<[^>]*>", "", page)
    assert (
        "Plans of 4 of 10 steps promised an error of 0.0100 of the last latents before the run, "
        "and controls measured 0.0125 (1.2 times as much, up to 1.5 times is usual); the promise "
        "is not corrected by them." in said
    )
    assert "promised an error of" not in without


@pytest.mark.slow
def test_the_page_shows_nothing_that_says_nothing(tmp_path: Path) -> None:
    pair = [row(0), row(0, control=True, psnr=100.0), row(1)]
    page = render(measure(write(tmp_path / "unpriced", pair), Prices()), {})
    assert "identical" in page
    assert "100.0 dB" not in page
    assert "95 %:" not in page  # an interval of one pair
    assert '<th class="r">cost' not in page  # a column without a price
    assert 'href="#worst"' not in page  # all pairs are in the gallery
    assert 'id="plot-errors"' not in page  # all predictions of a plan are equal
    twice = [row(n, up=9.0 * n) for n in (2, 3)] + [
        row(n, up=9.0 * n + 5, wall=3.0, control=True, psnr=100.0) for n in (2, 3)
    ]
    alike = render(measure(write(tmp_path / "alike", [row(9, up=1.0), *twice]), Prices()), {})
    assert "3.00×" in alike
    assert "95 %:" not in alike  # an interval without width
    uncached = render(measure(write(tmp_path / "uncached", [row(1, nfe=10)]), Prices()), {})
    assert 'href="#errors"' not in uncached
    assert "Play starts both" not in uncached
    priced = render(measure(write(tmp_path / "priced", pair), Prices({"": 3.6})), {})
    assert "cost of 1,000 clips" in priced
    assert '"thousand">$1.00</span>' in priced  # 1 s at a thousandth of a dollar a second


def test_a_clip_of_the_gallery_links_to_its_file_inside_the_prefix_alone(tmp_path: Path) -> None:
    inside, outside = row(0), row(1)
    outside["video"]["path"] = "media/../../secret.mp4"
    page = render(measure(write(tmp_path, [inside, outside]), Prices()), {})
    assert f'<a href="../{inside["video"]["path"]}"><code>{inside["sample_id"]}</code>' in page
    assert not re.search(r'href="[^"]*secret', page)


def test_few_clips_are_counted_in_wide_spans_of_time(tmp_path: Path) -> None:
    rows = [scored(number, minute=number) for number in range(22)]
    report = measure(write(tmp_path, rows), Prices())
    assert report.bucket_s == 300  # 22 clips in 21 minutes: about five a bar


def test_page_and_card_name_the_input_columns_that_clips_keep(tmp_path: Path) -> None:
    sources = ['{"category":"x","id":7}', '{"id":8}', "", "odd", "[1]", '{"a<b>|c":1}']
    rows = [row(number) | {"source": source} for number, source in enumerate(sources)]
    rows += [row(9, status="failed") | {"source": '{"id":9,"lost":1}'}]
    report = measure(write(tmp_path, rows), Prices())
    assert report.kept == {"id": 2, "a<b>|c": 1, "category": 1}
    page, card = render(report, {}), card_text(report)
    assert "id (2 clips), a&lt;b&gt;|c (1 clip), category (1 clip)" in page
    assert r"id (2 clips), a&lt;b>\|c (1 clip)" in card
    nothing = measure(write(tmp_path / "none", [row(0)]), Prices())
    assert nothing.kept == {}
    assert "kept columns" not in card_text(nothing)
    assert "further columns of the input" not in render(nothing, {})


def rendered(markdown: str) -> tuple[str, set[str]]:
    """The text of the last cell of a table, and the tags in it, as GitHub's Markdown has them."""
    html = MarkdownIt("gfm-like", {"html": True}).render(f"| | |\n|---|---|\n| a | {markdown} |\n")
    cell = html.rpartition("<td>")[2].partition("</td>")[0]
    return unescape(re.sub(r"<[^>]*>", "", cell)), set(re.findall(r"<(\w+)", cell))


@example("<script>alert(1)</script> <img src=x onerror=y> <!-- a --> &lt; &#58; & a&b")
@example("[a](javascript:x) ![i](j) [r] https://e.example/a_b*c www.e.example a@b.example")
@example("a|b \\| `x` ``y`` *b* **b** _i_ __init__ num_steps ~~s~~ $x$ \\(x\\) {a} #1 own@1")
@given(text=st.text("ab1 \\`*_[]()<>|~&!$@:#/.w", max_size=24))
@settings(max_examples=examples(300), deadline=None)
def test_a_card_shows_the_text_of_a_row_as_it_is(text: str) -> None:
    shown, tags = rendered(plain(text))
    assert " ".join(shown.split()) == " ".join(text.split())
    assert tags <= {"code"}


def test_page_card_and_terminal_say_how_many_clips_are_good_and_what_one_cost(
    tmp_path: Path,
) -> None:
    rows = [scored(n, n >= 4, motion=n / 10, black=0.0, look=LOOK) for n in range(16)]
    storage = record(write(tmp_path / "some", rows), "motion >= 0.4 and 'a<b' <> 'c|d'")
    report = measure(storage, Prices({"": 3600.0}))
    page = render(report, {})
    said = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "A good clip has motion &gt;= 0.4 and &#39;a&lt;b&#39; &lt;&gt; &#39;c|d&#39;" in said
    assert "rejects most: 4 of 4 rejected clips, 4 of them alone" in said
    assert "share of good clips 75.0% 95 %:" in said
    assert "cost of a good clip $8.33 95 %:" in said  # 100 s over 12 clips, a dollar a second
    assert "motion 16 0 0.75 ≥ 0.1 93.8% ≥ 0.4 ≥ 0.8 ≥ 1.2 ≥ 1.4 12.5%" in said
    assert "≤ 1.4 93.8% ≤ 1.1 ≤ 0.7 ≤ 0.3 ≤ 0.1 12.5%" in said
    assert "All 16 clips with a score have black 0 ." in said
    assert "fails: motion &gt;= 0.4" in said
    assert "16 clips look alike" in said
    assert 'id="plot-score-motion"' in page
    assert 'id="plot-score-black"' not in page  # all clips have one value
    card = card_text(report)
    assert "| scores | by `own@1` (16 clips)" in card
    assert r"judged (75.0%): motion >= 0.4 and 'a&lt;b' &lt;> 'c\|d' |" in card
    assert "| cost of a good clip | 8.33 s of device time, $8.33, with all" in card
    console = Console(record=True, width=400)
    print_report(report, console)
    assert "12 of 16 clips (75.0%) · 8.33 s of device time a good clip · $8.33 a good clip" in (
        console.export_text()
    )


def test_the_page_divides_clips_by_columns_of_few_values_and_says_of_the_others(
    tmp_path: Path,
) -> None:
    rows = []
    for number in range(16):
        category = "<b>cat</b>" if number % 4 else "dog"
        cells = {"id": number, "pair": number // 2, "category": category, "set": "a"}
        source = json.dumps(cells)
        made = scored(number, number % 4 > 0, motion=number % 4, black=0.0) | {"source": source}
        rows.append(made)
        if number < 8:
            rows.append(row(number, control=True, psnr=30.0 + number % 4))
    report = measure(record(write(tmp_path, rows), "motion > 0"), Prices({"": 3.6}))
    said = " ".join(re.sub(r"<[^>]*>", " ", render(report, {})).split())
    assert "By category category clips good device s / clip" in said
    assert "&lt;b&gt;cat&lt;/b&gt; 12 100.0% of 12 1.00 $1.00 4.0 32.0 dB 6 2 " in said
    assert "dog 4 0.0% of 4 1.00 $1.00 4.0 30.0 dB 2 0 " in said
    assert (
        "Clips are not divided by these columns: id (has more than 12 values: too many for a "
        "table), pair (has 8 values for 16 clips: too few clips of a value to compare), set (all "
        "clips have the value a)." in said
    )


def test_a_caution_about_few_pairs_stands_below_the_table(tmp_path: Path) -> None:
    rows = [row(0, up=50.0), row(0, control=True, psnr=40.0, up=60.0)]
    page = render(measure(write(tmp_path, rows), Prices()), {})
    caution = '<p class="warn">planned 4/10: only 1 pair: the interval is too narrow'
    table = page.index("Cached clips against their controls")
    assert page.index("</table>", table) < page.index(caution)


def test_the_page_says_what_each_score_means(tmp_path: Path) -> None:
    known = [name for scorer in load_scorers(["basic"]) for name in scorer.scores]
    assert [name for name in known if not meaning(name)] == []
    rows = [scored(n, motion=float(n), mine=float(n), class_cat=0.5) for n in range(3)]
    page = render(measure(write(tmp_path, rows), Prices()), {})
    assert f"<li><code>motion</code>: {meaning('motion')}</li>" in page
    assert "<code>class_cat</code>: probability of this label" in page
    assert "<li><code>mine</code>" not in page
    assert "docs/scores.md" in page


def test_the_page_says_how_to_get_scores_where_there_are_none(tmp_path: Path) -> None:
    report = measure(write(tmp_path, [row(0)]), Prices())
    page = render(report, {})
    assert "No clip was scored." in page
    assert f"jobs/score.py --output {tmp_path}" in page
    assert "good clips" not in card_text(report)


LOOK = "p1:" + "00" * 42
