"""Pages carry no lines of comment: code, and every literal in it, is as it was written."""

import json
import re
import shutil
import subprocess

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.views.page.test_assets import ENTRIES, SCRIPTS, STYLES

from atento.views.page_bundle import asset, bundle, joined, without_comments
from atento.views.page_shell import render_shell

TOKENS = """
const { tokenizer } = require("internal/deps/acorn/acorn/dist/acorn");
const options = { ecmaVersion: "latest", sourceType: "module" };
const seen = (text) =>
  [...tokenizer(text, options)].map(({ type, start, end }) => [type.label, text.slice(start, end)]);
const texts = JSON.parse(require("fs").readFileSync(0, "utf8"));
console.log(JSON.stringify(texts.map(seen)));
"""
"""Node brings a tokenizer of the language for its own use; ``--expose-internals`` shows it."""


@pytest.fixture(scope="module")
def tokens():
    program = shutil.which("node")
    if program is None:
        pytest.skip("node is not installed here")

    def tokens_of(texts):
        done = subprocess.run(
            [program, "--expose-internals", "-e", TOKENS],
            input=json.dumps(texts),
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return tokens_of


def test_every_module_is_the_same_code_without_its_comments(tokens):
    names = [*SCRIPTS, "widget.js"]
    whole = tokens([asset(name) for name in names])
    bare = tokens([without_comments(asset(name)) for name in names])
    for name, before, after in zip(names, whole, bare, strict=True):
        assert before == after, name
    assert sum(map(len, whole)) > 30_000


def test_no_literal_goes_on_over_the_end_of_a_line(tokens):
    for name, found in zip(SCRIPTS, tokens([asset(name) for name in SCRIPTS]), strict=True):
        assert [text for _, text in found if "\n" in text] == [], name
        assert not re.search("[\r\u2028\u2029]", asset(name)), name


def test_joined_scripts_are_scripts(tokens):
    for found in tokens([bundle(entry) for entry in ENTRIES]):
        assert len(found) > 500
        assert not {"import", "export"} & {kind for kind, _ in found}


HARD = """\
// at the top
const a = "//", b = '/* no */', c = `// ${"`//`"} /* */`; // after code
  // alone, with 'quotes" and `ticks
const d = /\\/\\*[/*]"/u.exec(a) / 2 / 3;
/** @param {string} x */
const e = (x) => /* within */ x;
/* over
 * lines **/
/** @type {Words} */ const f = 1;
\t/* two */ /* on a line */
const g = a //
  / /* divided */ 2;
/***/
/**/ h();
/* the last"""


def test_only_whole_lines_go():
    assert (
        without_comments(HARD)
        == """\
const a = "//", b = '/* no */', c = `// ${"`//`"} /* */`; // after code
const d = /\\/\\*[/*]"/u.exec(a) / 2 / 3;
const e = (x) => /* within */ x;
/** @type {Words} */ const f = 1;
\t/* two */ /* on a line */
const g = a //
  / /* divided */ 2;
/**/ h();
/* the last"""
    )
    assert without_comments("// the last") == ""
    assert without_comments("a\r\n// b\r\nc") == "a\r\nc"


def test_the_hard_cases_are_the_same_code(tokens):
    whole = HARD.removesuffix("\n/* the last")
    before, after = tokens([whole, without_comments(whole)])
    assert before == after


LITERALS = ("'//'", '"/*"', '"*/"', "`//${1}/*`", "`${'`'}//`", "/[/*]/", "/\\/\\//g", "'\\'//'")
PIECES = ("x", "1", "(x)", "f(1)", *LITERALS)
BLANKS = st.text(" \t", max_size=3)
REMARK = st.text("ab'\"`/ *\\$={}", max_size=12)
LINES = st.one_of(
    st.builds("{0}// {1}".format, BLANKS, REMARK),
    st.builds(
        lambda blanks, words: f"{blanks}/* {words} */",
        BLANKS,
        st.lists(REMARK, max_size=3).map(lambda lines: "\n".join(lines).replace("*/", "* /")),
    ),
    st.builds("{0}y = {1};".format, BLANKS, st.sampled_from(PIECES)),
    st.builds("{0}y = {1}; // {2}".format, BLANKS, st.sampled_from(PIECES), REMARK),
    st.builds("{0}/** why */ y = {1}; /* how */".format, BLANKS, st.sampled_from(PIECES)),
    st.just(""),
)


@settings(max_examples=20, deadline=None)  # each asks node once, about 30 programs
@given(st.lists(st.lists(LINES, max_size=12), min_size=30, max_size=30))
@example([["// '", "y = '//';", "/* ` */", "y = `//`;", "// `"]])
def test_any_code_stays_the_same_code(tokens, programs):
    texts = ["\n".join(lines) for lines in programs]
    found = tokens([*texts, *map(without_comments, texts)])
    assert found[: len(texts)] == found[len(texts) :]


def test_nothing_is_left_that_is_only_a_comment():
    for name in [*SCRIPTS, *STYLES, "widget.js"]:
        text = without_comments(asset(name))
        assert not re.search(r"^\s*//|^ \* |^\s*/\*(?!.*\*/.*\S)", text, re.MULTILINE), name
        kept = set(text.splitlines())
        assert kept <= set(asset(name).splitlines()), name


def test_style_sheets_keep_their_rules():
    for name in STYLES:
        bare = re.compile(r"/\*.*?\*/", re.DOTALL)
        before, after = asset(name), without_comments(asset(name))
        assert bare.sub("", before).split() == bare.sub("", after).split()


def test_pages_carry_what_is_joined():
    page = render_shell(
        {}, lang="en", kind="recording", entry="recording-main.js", styles=STYLES[:2]
    )
    assert joined("map-picture.js") in page
    assert without_comments(asset("recording.css")) in page
    for name in ("map-picture.js", "recording.css"):
        first = asset(name).splitlines()[0 if name.endswith("js") else 1]
        assert first.startswith(("//", "/*"))
        assert first not in page


def test_the_widget_carries_no_lines_of_comment_either():
    pytest.importorskip("anywidget")
    from atento.views.page_widget import PageWidget

    assert str(PageWidget._esm) == without_comments(asset("widget.js"))
    assert len(str(PageWidget._esm)) < len(asset("widget.js"))
