"""The mutants that mutmut makes of a module, and what each of them changes."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from pathlib import Path

from mutmut.mutation.file_mutation import mutate_file_contents
from mutmut.utils.format_utils import get_mutant_name

_LITERAL = re.compile(r"""(["'])((?:\\.|(?!\1).)*)\1""")

_STRICT = re.compile(r",? ?strict=\w+|, (?=\))")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One small fault in one function.

    Attributes:
        name: mutmut's name of it; the number in it changes with the function.
        module: The module's name.
        function: Module and function, e.g. `pipeline.report.pairs.few`.
        old: The lines that it changes, without indentation.
        new: What it makes of them.
    """

    name: str
    module: str
    function: str
    old: str
    new: str

    @property
    def counts(self) -> bool:
        """Whether a test should notice it."""
        return not (self.is_prose or self.is_check_of_lengths)

    @property
    def is_check_of_lengths(self) -> bool:
        """Whether it changes the `strict` of a zip alone, which no right program ever needs."""
        return _STRICT.sub("", self.old) == _STRICT.sub("", self.new)

    @property
    def is_prose(self) -> bool:
        """Whether it changes the words of a sentence alone, which no number depends on."""
        pairs = zip(_LITERAL.findall(self.old), _LITERAL.findall(self.new), strict=False)
        changed = [old for (_, old), (_, new) in pairs if old != new]
        same = self.old.casefold() == self.new.replace("XX", "").casefold()
        return same and len(changed) == 1 and " " in changed[0]


def mutants_of(path: Path) -> list[Mutant]:
    """The mutants of the module at a path from the root of the checkout, in a fixed order.

    mutmut makes none of functions with a decorator other than `staticmethod` and `classmethod`.
    """
    mutated = mutate_file_contents(str(path), path.read_text())
    lines = mutated.code.splitlines()

    def body(name: str) -> list[str]:
        span = mutated.line_span_by_function_name[name]
        return [line.replace(name, "") for line in lines[span.start - 1 : span.end]]

    module = ".".join(path.with_suffix("").parts)
    found = []
    for name in mutated.mutant_names:
        mangled = name.partition("__mutmut_")[0]
        function = re.sub("^x_|^xǁ", "", mangled).replace("ǁ", ".")
        diff = difflib.ndiff(body(f"{mangled}__mutmut_orig"), body(name))
        old, new = [], []
        for line in diff:
            if line.startswith(("- ", "+ ")):
                (old if line[0] == "-" else new).append(line[2:].strip())
        full = get_mutant_name(path, name)
        found.append(Mutant(full, module, f"{module}.{function}", " ".join(old), " ".join(new)))
    return found
