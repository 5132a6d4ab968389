"""A training that was watched, as the output of a notebook's cell."""

from atento.views.notebook import mime_bundle
from watched_records import watched


def test_the_page_the_figure_and_the_table():
    bundle = mime_bundle(watched(), lang="en")
    assert sorted(bundle) == ["image/png", "text/html", "text/plain"]
    assert 'title="How the heads of a model formed"' in bundle["text/html"]
    assert "previous token" in bundle["text/plain"]
    assert "atento.page/watch/1" in bundle["text/html"]
