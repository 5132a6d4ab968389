"""Every block of every page is run, in order, and shows what the page says it shows."""

from docs.snippets import LOOKED_AT, RUN, blocks, run_page


def test_what_a_page_shows_is_so(page, folder):
    run_page(page, folder)


def test_every_block_is_of_a_kind_that_is_run(page):
    kinds = {block.language for block in blocks(page)}
    assert kinds <= {*RUN, *LOOKED_AT}
