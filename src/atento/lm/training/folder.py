"""The folder of a run: made, written by one training at a time, and perhaps full."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from os import PathLike
from pathlib import Path

from atento._errors import InputError
from atento._locking import LOCK, writing
from atento.lm.training.run import NAME

__all__ = ["made", "only_training", "written"]


def made(out: str | PathLike[str]) -> tuple[Path, bool]:
    """See that the folder is there, and tell whether it was not before.

    Raises:
        InputError: it has no name, or the system refused.
    """
    if not str(out).strip():
        raise InputError(
            "train: the folder of the run has no name: say where it goes, as in 'runs/x'.",
            name="lm_out",
        )
    folder = Path(out)
    new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{folder} cannot be made: {error.strerror}.",
            name="lm_folder",
            folder=folder,
            why=error.strerror,
        ) from None
    return folder, new


@contextmanager
def only_training(folder: Path, new: bool = False) -> Iterator[None]:
    """No other training is at work in it meanwhile. One that cannot begin leaves no new folder.

    Raises:
        InputError: there is another, or the folder cannot be written.
    """
    with ExitStack() as until_then:
        try:
            with written(folder):
                until_then.enter_context(writing(folder, 0))
        except InputError as error:
            if error.name != "index_locked":
                raise
            holder = error.facts["holder"]
            raise InputError(
                f"{folder} is being written by another process ({holder}): a training is at work "
                "in it. Wait for its end, or choose another folder.",
                name="lm_run_locked",
                folder=folder,
                holder=holder,
            ) from None
        for aside in folder.glob(".atento-*"):  # what a killed process has left
            aside.unlink(missing_ok=True)
        try:
            yield
        except BaseException:
            if new and [each.name for each in folder.iterdir()] == [LOCK]:
                with suppress(OSError):
                    (folder / LOCK).unlink()
                    folder.rmdir()
            raise


@contextmanager
def written(folder: Path) -> Iterator[None]:
    """What is written in it meanwhile; where the system refuses, it is told and nothing is spoilt.

    Raises:
        InputError: why, and what stays.
    """
    try:
        yield
    except OSError as error:
        why: object = error.strerror or error
    except InputError as error:
        if error.name != "lm_unwritten":
            raise
        why = error.facts["why"]
    else:
        return
    if (folder / NAME).exists():
        raise InputError(
            f"{folder} cannot be written: {why}. Its last checkpoint stays as it was: when there "
            "is room again, resume=True goes on from there.",
            name="lm_run_unwritten",
            folder=folder,
            why=why,
        )
    raise InputError(
        f"{folder} cannot be written: {why}. Choose another folder.",
        name="lm_unwritten",
        folder=folder,
        why=why,
    )
