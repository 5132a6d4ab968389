"""PageWidget: a page in a frame, its state a trait that both sides read and set."""

from collections.abc import Callable
from typing import Any

import anywidget
import traitlets

from atento.views.notebook import Frame
from atento.views.page_bundle import asset, without_comments

__all__ = ["PageWidget"]

PLAIN = (str, int, float, bool, type(None))


class PageWidget(anywidget.AnyWidget):
    """A page of atento's in a notebook.

    Messages of the page arrive through ``assets/widget.js``. Pages carry all that they show; for
    recordings too long for that, the kernel would compute tiles when the page asks for them
    through the widget's messages (``on_msg``), which is not done yet.

    Args:
        frame: the page, and what it is called.
        still: makes a picture in base64, for a notebook that is opened without a kernel, or None.

    Attributes:
        state: what is looked at, a dict of plain values; empty until the page has been drawn.
    """

    _esm = without_comments(asset("widget.js"))

    page = traitlets.Unicode().tag(sync=True)
    title = traitlets.Unicode().tag(sync=True)
    state = traitlets.Dict(key_trait=traitlets.Unicode()).tag(sync=True)

    def __init__(self, frame: Frame, still: Callable[[], str | None]) -> None:
        self._still = still
        super().__init__(page=frame.page, title=frame.title)

    @traitlets.validate("state")
    def _plain(self, proposal: Any) -> dict[str, Any]:
        state: dict[str, Any] = proposal["value"]
        foreign = {name: value for name, value in state.items() if not isinstance(value, PLAIN)}
        if foreign:
            raise traitlets.TraitError(
                f"state holds text, numbers, True, False and None; got {foreign!r}."
            )
        return state

    def __repr__(self) -> str:
        return f"PageWidget({self.title!r}, {self.state})"

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        made = super()._repr_mimebundle_(**kwargs)
        picture = self._still()
        if made is not None and picture is not None:
            made[0].setdefault("image/png", picture)
        return made
