"""Tiles that are fetched: together, what is seen before what may be seen, and nothing else."""

import pytest

pytestmark = pytest.mark.browser  # of the front end: it runs in node

SCRIPT = """
import { tileClient } from "./tiles.js";
globalThis.navigator ??= {}; // node before 21
const asked = [];
const fetchTiles = (corners, zoom, size, signal) =>
  new Promise((resolve, reject) => {
    const one = { corners: corners.map(([row, col]) => [row >> 9, col >> 9]), aborted: false };
    asked.push(one);
    signal.addEventListener("abort", () => {
      one.aborted = true;
      reject(new DOMException("gone", "AbortError"));
    });
    one.answer = () => {
      one.answered = true;
      resolve(corners.map(() => ({ rows: 128, cols: 128, mean: [], max: [] })));
    };
  });
const head = { Tq: 131072, Tk: 131072, overview: () => null, fetchTiles };
const places = (rows, cols) =>
  rows.flatMap((row) => cols.map((col) => ({ head, level: 2, row, col })));
const settled = () => new Promise((done) => setTimeout(done));
const open = () => asked.filter((one) => !one.answered && !one.aborted);
const answerAll = async (most = 100) => {
  for (let turn = 0; turn < most && open().length; turn++) {
    for (const one of open()) one.answer();
    await settled();
  }
};
const tiles = tileClient("");
const owner = {};
let told = 0;
const [rows, cols] = [[100, 101, 102], [60, 61, 62, 63]];
const region = { head, level: 2, rows: [100, 102], cols: [60, 63] };
const missing = () => places(rows, cols).filter((place) => !tiles.get(place));
// As a map does: when it is told of tiles, it draws, and wants what is still missing.
tiles.listen(() => (told++, tiles.want(owner, missing(), region)));
tiles.want(owner, missing(), region);
"""


def test_what_is_missing_is_asked_for_together_and_nothing_ahead_of_it(node):
    asked = node(SCRIPT + "answer = asked.map(({ corners }) => corners);", None)
    assert [len(corners) for corners in asked] == [3, 3, 2, 1, 1, 1]
    seen = [tuple(at) for corners in asked for at in corners]
    assert len(set(seen)) == 11
    assert set(seen) <= {(row, col) for row in range(100, 103) for col in range(60, 64)}


def test_one_drawing_when_all_have_come_and_none_for_what_came_ahead(node):
    answer = node(
        SCRIPT
        + """
        while (missing().length) { open()[0].answer(); await settled(); }
        const drawn = told;
        await answerAll();
        answer = { drawn, told, busy: owner.ariaBusy, asked: asked.map(({ corners }) => corners) };
        """,
        None,
    )
    assert answer["told"] == answer["drawn"] <= 2
    assert answer["busy"] == "false"
    fetched = [tuple(at) for corners in answer["asked"] for at in corners]
    around = {(row, col) for row in range(98, 105) for col in range(58, 66)}
    assert len(fetched) == len(set(fetched))
    assert set(fetched) == around
    near = {(row, col) for row in range(99, 104) for col in range(59, 65)}
    ahead = [at for at in fetched[12:] if at in near]
    assert ahead == fetched[12 : 12 + len(ahead)], "the nearest first"


def test_what_is_ahead_gives_way_to_what_is_missing(node):
    answer = node(
        SCRIPT
        + """
        while (missing().length) { open()[0].answer(); await settled(); }
        const ahead = open();
        cols.splice(0, 4, 63, 64, 65, 66); // moved: some of these are under way already
        tiles.want(owner, missing(), { head, level: 2, rows: [100, 102], cols: [63, 66] });
        await settled();
        const isWanted = ([row, col]) => rows.includes(row) && cols.includes(col);
        const useful = (one) => one.corners.some(isWanted);
        answer = {
          ahead: ahead.length,
          kept: ahead.filter(useful).map(({ aborted }) => aborted),
          left: ahead.filter((one) => !useful(one)).map(({ aborted }) => aborted),
          then: open().slice(0, 100).every((one) => useful(one)),
        };
        """,
        None,
    )
    assert answer["ahead"] == 3
    assert answer["kept"] + answer["left"]
    assert not any(answer["kept"])
    assert all(answer["left"])
    assert answer["then"]


def test_nothing_is_fetched_ahead_beside_what_is_missing(node):
    asked = node(
        SCRIPT
        + """
        await answerAll();
        const before = asked.length;
        rows.splice(0, 3, 110);
        cols.splice(0, 4, 60, 61);
        tiles.want(owner, missing(), { head, level: 2, rows: [110, 110], cols: [60, 61] });
        answer = asked.slice(before).map(({ corners }) => corners);
        """,
        None,
    )
    assert asked == [[[110, 60]], [[110, 61]]]


def test_a_request_that_failed_is_made_again(node):
    answer = node(
        SCRIPT.replace(
            "const one = {", "if (!failed) return reject((failed = true));\nconst one = {"
        ).replace("const asked", "let failed = false;\nconst asked")
        + """
        await new Promise((done) => setTimeout(done, 1200));
        await answerAll();
        answer = [missing().length, owner.ariaBusy];
        """,
        None,
    )
    assert answer == [0, "false"]


def test_after_a_jump_only_what_is_around_is_fetched(open_live, recording):
    """What the pointer stands over, and the chosen pair, count for nothing."""
    live = open_live(given={"recordings": {"long": recording(20_000, heads=1)}})
    page = live.page
    page.wait_for_selector("#view")
    live.look(view="map", zoom=2, x=3000, y=9000, row=9000, col=3000)
    live.quiet()
    page.locator(".map canvas").hover()

    def corners():
        found = [url.split("at=")[1] for url in live.requests if "/tiles?" in url]
        return [tuple(map(int, at.split("."))) for group in found for at in group.split(",")]

    live.quiet()
    before = len(corners())
    live.look(x=15000, y=17000)
    live.quiet()
    after = corners()[before:]
    assert after
    wide, high = 1280 * 4 // 2, 900 * 4 // 2  # the window, at four weights a pixel
    for row, col in after:
        assert abs(col - 15000) <= wide + 3 * 512
        assert abs(row - 17000) <= high + 3 * 512
