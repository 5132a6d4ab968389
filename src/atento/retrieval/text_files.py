"""Text of a user's file: is it there, is it UTF-8? Errors carry their name for other languages."""

from pathlib import Path

from atento._errors import InputError

__all__ = ["check_path", "read_utf8"]


def check_path(path: Path) -> None:
    """See that a file or folder is there.

    Raises:
        InputError: it is not, or nobody may look.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise InputError(
            f"{path} does not exist. Check the name and the folder.", name="missing_file", path=path
        ) from None
    except PermissionError:
        raise _no_permission(path) from None
    except (OSError, ValueError) as error:  # a name too long; a NUL in it
        why = getattr(error, "strerror", None) or error
        raise InputError(
            f"{path} can't be a file name ({why}). Check it.", name="bad_name", path=path, why=why
        ) from None


def read_utf8(path: Path) -> str:
    """The file's text, UTF-8 with or without a byte order mark.

    Raises:
        InputError: it cannot be read, or is not UTF-8; says which byte.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not UTF-8 text (byte {error.start + 1}). Save it as UTF-8.",
            name="not_utf8",
            path=path,
            byte=error.start + 1,
        ) from None
    except PermissionError:
        raise _no_permission(path) from None
    except OSError as error:
        raise InputError(
            f"{path} can't be read: {error.strerror}.",
            name="unreadable",
            path=path,
            why=error.strerror,
        ) from None


def _no_permission(path: Path) -> InputError:
    return InputError(
        f"{path} may not be read by you. Check its permissions.", name="no_permission", path=path
    )
