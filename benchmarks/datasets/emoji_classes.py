"""Which drawing belongs to which emoji."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from .emoji_packages import IconSet
from .emoji_rendering import Drawing, drawings

VARIATION_SELECTOR = "fe0f"
SKIN_TONES = {f"{code:x}" for code in range(0x1F3FB, 0x1F400)}
FLAGS = {f"{code:x}" for code in [*range(0x1F1E6, 0x1F200), *range(0xE0020, 0xE0080)]}
FLAGS |= {"1f3f3", "1f3f4"}  # white and black flag, which begin rainbow and pirate flag
# Of icons that have no code points:
SKIN_TONE_NAME = re.compile(r"(skin-tones?(-\d)?|-(medium-)?(dark|light)|-medium)$")
FLAG_NAME = re.compile(r"^flags?(-|$)")
# Names that mean another emoji (or none: "") than in other sets, found by looking.
CORRECTIONS = {
    "emojione-v1": {"keyboard": "", "window": ""},
    "fxemoji": {
        "bunny": "1f430",
        "bunnyside": "1f407",
        "cat": "1f431",
        "catside": "1f408",
        "construction": "1f3d7",
        "dog": "1f436",
        "dogside": "1f415",
        "dragonhead": "1f432",
        "dragonside": "1f409",
        "keyboard": "",
        "kiss": "",
        "leopardside": "1f406",
        "mouse": "1f42d",
        "mouseside": "1f401",
        "pig": "1f437",
        "pigside": "1f416",
        "spurtingwhale": "1f433",
        "star": "1f31f",
        "sunglasses": "1f60e",
        "tiger": "1f42f",
        "tigerside": "1f405",
        "umbrella": "1f302",
        "whitemediumstar": "2b50",
        "window": "",
    },
}


@dataclass(frozen=True)
class EmojiClass:
    """One emoji."""

    key: str  # code points; for an emoji of which no set has them, "name:" and its name
    name: str
    drawings: dict[str, Drawing]  # by vendor

    @property
    def code_points(self) -> str:
        """Hexadecimal, joined by "-"; empty where unknown."""
        return "" if self.key.startswith("name:") else self.key


def classes(icon_sets: Sequence[IconSet], min_vendors: int) -> list[EmojiClass]:
    """All emoji drawn by `min_vendors` or more, in the order of their keys.

    Skin tones, flags, and drawings that stand for two emoji of a set are left out.
    """
    found = {icon_set.vendor: drawings(icon_set) for icon_set in icon_sets}
    own_codes = {x.vendor: _codes(x, found[x.vendor]) for x in icon_sets}
    code_of = _names(found, own_codes)
    members: dict[str, dict[str, Drawing]] = defaultdict(dict)
    names: dict[str, str] = {}
    for vendor, by_name in found.items():
        corrected = {
            name: [code] if code else []
            for name, code in CORRECTIONS.get(vendor, {}).items()
        }
        codes = {**own_codes[vendor], **corrected}
        for key, drawing, name in _members(by_name, codes, code_of):
            members[key][vendor] = drawing
            names.setdefault(key, name)
    return [
        EmojiClass(key, names[key], members[key])
        for key in sorted(members)
        if len(members[key]) >= min_vendors
    ]


def fold(name: str) -> str:
    """Without case and punctuation, which sets use differently."""
    return "".join(c for c in name.casefold() if c.isalnum())


def _codes(icon_set: IconSet, by_name: dict[str, Drawing]) -> dict[str, list[str]]:
    """Code points by icon name, as the set itself has them."""
    codes = defaultdict(list)
    for code, name in icon_set.chars.items():
        parts = [p for p in code.lower().split("-") if p != VARIATION_SELECTOR]
        if name in by_name:
            codes[name].append("-".join(parts))
    return codes


def _names(
    found: dict[str, dict[str, Drawing]], own_codes: dict[str, dict[str, list[str]]]
) -> dict[str, str]:
    """Code points by folded name, for sets that have no code points.

    Names that most sets agree on come before their aliases, and these before the
    names of the Unicode standard, which old sets use. Where sets are divided, a name
    says nothing.
    """
    main: dict[str, Counter[str]] = defaultdict(Counter)
    other: dict[str, Counter[str]] = defaultdict(Counter)
    for vendor, by_name in found.items():
        codes_of: dict[Drawing, list[str]] = defaultdict(list)
        for name, codes in own_codes[vendor].items():
            codes_of[by_name[name]] += codes
        for name, drawing in by_name.items():
            if name in own_codes[vendor]:
                main[fold(name)].update(own_codes[vendor][name])
            else:
                other[fold(name)].update(codes_of.get(drawing, ()))
    standard: dict[str, Counter[str]] = defaultdict(Counter)
    for code in {code for codes in main.values() for code in codes if "-" not in code}:
        name = unicodedata.name(chr(int(code, 16)), "")
        standard[fold(name)].update([code])
    code_of: dict[str, str] = {}
    for table in (standard, other, main):  # the later, the weightier
        for name, votes in table.items():
            first = votes.most_common(2)
            if len(first) == 2 and first[0][1] == first[1][1]:
                code_of.pop(name, None)
            elif first:
                code_of[name] = first[0][0]
    return code_of


def _members(
    by_name: dict[str, Drawing],
    own_codes: dict[str, list[str]],
    code_of: dict[str, str],
) -> Iterable[tuple[str, Drawing, str]]:
    """Keys with drawing and name, of one set; none twice, no drawing twice."""
    aliases: dict[Drawing, list[str]] = defaultdict(list)
    for name, drawing in by_name.items():
        aliases[drawing].append(name)
    claims: dict[str, list[tuple[Drawing, str]]] = defaultdict(list)
    for drawing, names in aliases.items():
        for key, name in _keys(names, own_codes, code_of).items():
            claims[key].append((drawing, name))
    times = Counter(drawing for group in claims.values() for drawing, _ in group)
    for key, group in claims.items():
        (drawing, name), *rest = group
        if not rest and times[drawing] == 1:
            yield key, drawing, name


def _keys(
    names: list[str], own_codes: dict[str, list[str]], code_of: dict[str, str]
) -> dict[str, str]:
    """The classes of one drawing, with the name under which it is in each.

    By its own code points, which may be none; else by the first of its names that is
    known (icons come before aliases), else by its name.
    """
    keys = {code: name for name in names for code in own_codes.get(name, ())}
    if not any(name in own_codes for name in names):
        known = [name for name in names if fold(name) in code_of]
        keys = {code_of[fold(name)]: name for name in known[:1]}
    if keys or any(name in own_codes for name in names):
        return {
            code: name
            for code, name in keys.items()
            if not (SKIN_TONES | FLAGS) & set(code.split("-"))
        }
    if any(SKIN_TONE_NAME.search(name) or FLAG_NAME.search(name) for name in names):
        return {}
    return {f"name:{fold(names[0])}": names[0]}
