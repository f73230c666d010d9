"""Tasks that users state in a TOML file: needle, question, answers and distractors, without code.

Texts have placeholders, `{name}`, for what each needle draws anew: a value from a generator ("number", "uuid", "word"),
an entry of a list, or the fields of a row of facts. `docs/task.toml` is a worked example with every key.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from string import Formatter
from typing import Any

from needle import tasks
from needle.errors import UsageError, one_line
from needle.tasks._values import MAKERS, WORDS
from needle.tasks._written import Written

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LARGEST = 1_000_000
"""Bytes of a task file, at most: anything longer is something else."""
MOST = 10_000
"""Distractors of the needle's own form, at most: each is drawn to differ from all before it."""


def read(name: str) -> bytes:
    """The bytes of a task file.

    Raises:
        UsageError: there is none, or it cannot be read.
    """
    path = Path(name).expanduser()
    try:
        if path.stat().st_size > LARGEST:
            raise _fault(name, f"is larger than {LARGEST} bytes; that is no task file")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or "not a path"
        raise UsageError(f"task file '{one_line(name)}' cannot be read ({why}); give one that you may read") from error


def load(name: str) -> tasks.Task:
    """The task that a file states.

    Raises:
        UsageError: the file is not a task's; the message names the key at fault.
    """
    try:
        stated = tomllib.loads(read(name).decode("utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _fault(name, f"is not TOML ({one_line(error)})") from error
    reader = _Reader(name, stated)
    task = reader.task()
    reader.check(task)
    return task


@dataclass(frozen=True, slots=True)
class _Reader:
    """Reads the keys of one file strictly."""

    file: str
    stated: dict[str, Any]

    def task(self) -> Written:
        """All keys, each of its kind."""
        self._known(self.stated, KEYS, "")
        needle = self._text("needle")
        distractors = self.stated.get("distractors", 0)
        many = isinstance(distractors, list)
        return Written(
            summary=" ".join(self._text("summary", f"the task of {Path(self.file).name}").split()),
            needle=needle,
            asked=self._text("question"),
            answers=self._texts("answers"),
            prefix=self._text("prefix", ""),
            reply=self._text("reply", needle),
            count=0 if many else self._count("distractors", 0, least=0, most=MOST),
            texts=self._texts("distractors") if many else (),
            wrong=self._texts("wrong", ()),
            values=self._values(),
            facts=self._facts(),
            template=self._text("template", tasks.TEMPLATE),
            base=self._text("base", tasks.BASE),
            system=self._text("system", "") or None,
            max_new_tokens=self._count("max_new_tokens", 64, least=1),
            haystack=self._text("haystack", "") or None,
            prefill=self._flag("prefill"),
            per_length=self._flag("per_length"),
        )

    def check(self, task: Written) -> None:
        """What no single key can tell."""
        names = {*task.values, *(task.facts[0] if task.facts else ())}
        for key, text in (("needle", task.needle), ("question", task.asked), ("prefix", task.prefix)):
            self._fillable(key, text, names)
        for key, text in (("reply", task.reply), *(("answers", answer) for answer in task.answers)):
            self._fillable(key, text, names)
        self._fillable("template", task.template, {"context", "question"}, all_of=True)
        self._fillable("base", task.base, {"context", "question", "prefix"}, all_of=True)
        if not task.base.endswith("{prefix}"):
            raise self._fault("base", "has to end in {prefix}, the beginning of the answer")
        if not task.reply.startswith(task.prefix):
            raise self._fault("reply", "has to begin with the prefix; unless stated it is the needle")
        if missing := [a for a in task.answers if a not in task.reply]:
            raise self._fault("reply", f"does not hold the answer '{missing[0]}'; unless stated it is the needle")
        if task.count and not _names(task.needle):
            raise self._fault("distractors", f"{task.count} of a needle that says the same each time; list their texts")
        self._enough(task)

    def _enough(self, task: Written) -> None:
        """Every needle and distractor of a context needs an entry, and a word, of its own."""
        many = {name: source for name, source in task.values.items() if isinstance(source, tuple)}
        for key, entries in [*((f"values.{name}", source) for name, source in many.items()), ("facts", task.facts)]:
            if 0 < len(entries) <= task.count:
                raise self._fault(
                    key, f"{len(entries)} are too few for the needle and {task.count} distractors; add some"
                )
        words = [name for name, source in task.values.items() if source == "word"]
        if words and task.count >= WORDS:
            raise self._fault(f"values.{words[0]}", f"there are {WORDS:,} words; take a number, a uuid or a list")

    def _values(self) -> dict[str, str | tuple[str, ...]]:
        stated = self.stated.get("values", {})
        if not isinstance(stated, dict):
            raise self._fault("values", 'has to be a table such as [values], with code = "number"')
        found: dict[str, str | tuple[str, ...]] = {}
        for name, source in stated.items():
            key = f"values.{name}"
            self._name(key, name)
            if isinstance(source, list):
                found[name] = self._texts(key, given=source)
            elif isinstance(source, str) and source in MAKERS:
                found[name] = source
            else:
                raise self._fault(key, f"is no list of texts and none of {', '.join(MAKERS)}")
        return found

    def _facts(self) -> tuple[dict[str, str], ...]:
        stated = self.stated.get("facts", [])
        if not isinstance(stated, list) or not all(isinstance(row, dict) and row for row in stated):
            raise self._fault("facts", 'has to be a list of tables such as [[facts]], with city = "Lisbon"')
        for number, row in enumerate(stated, 1):
            if set(row) != set(stated[0]):
                raise self._fault("facts", f"row {number} has other fields than the first: {', '.join(row)}")
            for name, value in row.items():
                self._name(f"facts.{name}", name)
                if not isinstance(value, str) or not value.strip():
                    raise self._fault(f"facts.{name}", f"of row {number} is no text")
                if name in self.stated.get("values", {}):
                    raise self._fault(f"facts.{name}", "is among the values, too; name one of them otherwise")
        if len({tuple(sorted(row.items())) for row in stated}) < len(stated):
            raise self._fault("facts", "a row stands there twice")
        return tuple(stated)

    def _text(self, key: str, default: str | None = None) -> str:
        value = self.stated.get(key, default)
        if value is None:
            raise self._fault(key, "is missing; a task needs needle, question and answers")
        if not isinstance(value, str) or (key in self.stated and not value.strip()):
            raise self._fault(key, "has to be a text in quotes")
        return value

    def _texts(self, key: str, default: tuple[str, ...] | None = None, given: Any = None) -> tuple[str, ...]:
        value = self.stated.get(key, default) if given is None else given
        if value is None:
            raise self._fault(key, "is missing; a task needs needle, question and answers")
        if value == () or (isinstance(value, list) and value and all(isinstance(v, str) and v.strip() for v in value)):
            if len(set(value)) == len(value):
                return tuple(value)
            raise self._fault(key, "a text stands there twice")
        raise self._fault(key, 'has to be a list of texts such as ["one", "two"]')

    def _count(self, key: str, default: int, least: int, most: int | None = None) -> int:
        value = self.stated.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise self._fault(key, f"has to be a whole number from {least}{' or a list of texts' * (least == 0)}")
        if most is not None and value > most:
            raise self._fault(key, f"{value:,} are too many; up to {most:,} can be drawn")
        return value

    def _flag(self, key: str) -> bool:
        value = self.stated.get(key, False)
        if not isinstance(value, bool):
            raise self._fault(key, "has to be true or false")
        return value

    def _name(self, key: str, name: str) -> None:
        if not name.isidentifier():
            raise self._fault(key, "is no name for a placeholder; use letters, digits and _")

    def _known(self, table: Iterable[str], known: Iterable[str], inside: str) -> None:
        for key in table:
            if key not in known:
                near = difflib.get_close_matches(key, list(known), n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(known)}"
                raise self._fault(inside + key, f"is unknown; {hint}")

    def _fillable(self, key: str, text: str, names: set[str], all_of: bool = False) -> None:
        """Every placeholder of the text is one of the names, and a plain one."""
        try:
            used = _names(text)
        except ValueError as error:
            raise self._fault(key, f"has a brace too many or too few ({error}); write {{{{ for a brace") from error
        if unknown := [n for n in used if n not in names]:
            known = f"known are {', '.join(sorted(names))}" if names else "there are no values and no facts"
            raise self._fault(key, f"names {{{unknown[0]}}}, which is unknown; {known}")
        if all_of and (lacking := sorted(n for n in names if used.count(n) != 1)):
            raise self._fault(key, f"has to hold {{{lacking[0]}}} once")

    def _fault(self, key: str, what: str) -> UsageError:
        return _fault(self.file, f"{key}: {what}")


KEYS = (
    *("summary", "needle", "question", "answers", "distractors", "wrong", "prefix", "reply", "values", "facts"),
    *("template", "base", "system", "max_new_tokens", "haystack", "prefill", "per_length"),
)


def _fault(file: str, what: str) -> UsageError:
    return UsageError(one_line(f"task file '{file}': {what}"))


def _names(text: str) -> list[str]:
    """The placeholders of a text; those with attributes, indices or formats are named whole, and so are unknown."""
    found = []
    for _, name, form, conversion in Formatter().parse(text):
        if name is not None:
            found.append(name + (f"!{conversion}" if conversion else "") + (f":{form}" if form else ""))
    return found
