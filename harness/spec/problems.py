"""From pydantic's findings to one-line errors: where, which key, what was found, what was expected, the mend."""

import difflib
import types
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, cast, get_args, get_origin

from pydantic import BaseModel, ValidationError

from harness.model.errors import SpecError
from harness.spec.document import Document, Key, read_document
from harness.spec.words import WORDS

F = TypeVar("F", bound=BaseModel)
_LONGEST = 60


def parse(document: Document, model: type[F]) -> F:
    """Return the file as `model`. Raises Problems, which hold every SpecError of the file."""
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        raise Problems(_each(document, model, error)) from None


class Problems(Exception):
    """All that is wrong with one file."""

    def __init__(self, errors: Iterable[SpecError]) -> None:
        """Keep `errors` in the order of their lines."""
        self.errors = tuple(sorted(errors, key=_line))
        super().__init__(f"{len(self.errors)} problems")


def _line(error: SpecError) -> int:
    """Return the line of an error; 0 for one about a file that could not be read, which has none."""
    line = error.where.rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


def first(errors: Sequence[SpecError]) -> SpecError:
    """Return the first error, which says how many more there are.

    An unknown key goes before the key that is missing in its place: it is the mistake, the other its shadow.
    """
    head = next((error for error in errors if error.message.startswith("unknown key")), errors[0])
    if len(errors) == 1:
        return head
    more = f"and {len(errors) - 1} more (rollgate validate lists them)"
    return SpecError(head.message, where=head.where, key=head.key, mend=f"{head.mend}; {more}")


def suggestion(found: str, known: Iterable[str], what: str) -> str:
    """Return the mend for an unknown name: the nearest known one, or all of them."""
    names = sorted(known)
    near = difflib.get_close_matches(found, names, n=1, cutoff=0.6)
    if near:
        return f"did you mean `{near[0]}`?"
    return f"known {what}: {', '.join(names)}" if names else f"there are no {what} here"


def _each(document: Document, model: type[BaseModel], error: ValidationError) -> Iterable[SpecError]:
    for item in error.errors(include_url=False):
        at: Key = tuple(part for part in item["loc"] if part != "[key]")
        kind = item["type"]
        if kind == "extra_forbidden":
            known = _keys(model, at[:-1])
            yield document.problem(
                at, "unknown key, expected a key of this format", mend=suggestion(str(at[-1]), known, "keys")
            )
        elif kind == "missing":
            yield document.problem(at, "missing, expected a value", mend=f"add `{at[-1]}: ...` here")
        else:
            expected = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
            if kind == "string_pattern_mismatch":
                pattern = item["ctx"]["pattern"] if "ctx" in item else ""
                expected = WORDS.get(pattern, f"a name that matches '{pattern}'")
            found = cast("object", at[-1] if item["loc"][-1:] == ("[key]",) else item["input"])
            yield document.problem(at, f"found {_show(found)}, expected {expected}", mend=_mend(kind, found))


def _mend(kind: str, found: object) -> str:
    if kind == "string_type" and isinstance(found, bool | int | float):
        return "put it in quotes"
    if found is None:
        return "give it a value, or drop the key"
    if kind in {"float_type", "int_type"} and isinstance(found, str):
        return "write a number without quotes or unit"
    return "correct the value"


def _show(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    text = repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "..."


def _keys(model: type[BaseModel], at: Key) -> Iterable[str]:
    """Return the keys that `model` knows at the path `at`."""
    here: Any = model
    for part in at:
        here = _inside(here, part)
    here = _plain(here)
    if isinstance(here, type) and issubclass(here, BaseModel):
        return [field.alias or name for name, field in here.model_fields.items()]
    return []


def _inside(kind: Any, part: str | int) -> Any:  # noqa: ANN401 - types of types
    kind = _plain(kind)
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        for name, field in kind.model_fields.items():
            if part in (name, field.alias):
                return field.annotation
        return None
    arguments = get_args(kind)
    return arguments[-1] if arguments else None


def _plain(kind: Any) -> Any:  # noqa: ANN401 - types of types
    """Strip Annotated and None from a type."""
    while get_origin(kind) is Annotated or get_origin(kind) in (Union, types.UnionType):
        kind = next(item for item in get_args(kind) if item is not type(None))
    return kind


def read(path: Path, model: type[F]) -> tuple[Document, F]:
    """Read and parse one file. Raises Problems."""
    try:
        document = read_document(path)
    except SpecError as error:
        raise Problems([error]) from None
    return document, parse(document, model)


def unknown(document: Document, at: Key, found: str, known: Iterable[str], what: str) -> SpecError:
    """Return the error about a name that nothing declares; `what` is the plural of its kind."""
    return document.problem(at, f"found `{found}`, expected one of the {what}", mend=suggestion(found, known, what))
