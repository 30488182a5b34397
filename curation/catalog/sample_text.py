"""Titles and descriptions as the sample's sellers write them: clear, half clear or saying nothing; with typos and filler."""

from collections.abc import Mapping
from typing import Any

from curation.catalog.sample_dice import Dice
from curation.catalog.sample_goods import Goods, Leaf
from curation.catalog.sample_items import Clarity, Item

NO_DESCRIPTION: Mapping[Clarity, float] = {Clarity.CLEAR: 0.08, Clarity.PARTIAL: 0.15, Clarity.VAGUE: 0.4}
DISTRACTOR_SHARE = 0.08
HONEST_SHARE = 0.05
"""Share of listings per violation that sound a little like it and are honest."""

SPOKEN_SHARE = 0.8
"""Share of violations that the text gives away; the others only photo and price."""


class Writer:
    """Writes listings. Every listing has its own stream, so a text does not depend on its neighbours."""

    def __init__(self, goods: Goods, seed: int) -> None:
        self.goods, self.seed = goods, seed
        self.title_forms: Mapping[str, list[str]] = goods.phrases["title"]
        self.forms: Mapping[str, list[str]] = goods.phrases["text"]

    def write(self, item: Item) -> tuple[str, str]:
        """Title and description. A repost's are the original's with small changes."""
        dice = Dice.of(self.seed, "text", item.original_row)
        words = _Words(item, self.goods, dice)
        title, description = self._title(words), self._description(words)
        title, description = _messy(title, item, self.goods, dice), _messy(description, item, self.goods, dice)
        if item.is_repost:
            title, description = _reworded(title, description, Dice.of(self.seed, "repost", item.row))
        return title[:1].upper() + title[1:] if item.author.sloppiness < 0.5 else title, description

    def _title(self, words: "_Words") -> str:
        item, dice = words.item, words.dice
        kind = item.clarity if item.clarity is not Clarity.CLEAR or words.language == "en" else words.language
        form = dice.pick(self.title_forms[kind])
        title = words.fill(form)
        if "prohibited_item" in item.violations and dice.hit(0.4):
            title += f" + {words['thing']}"
        return title or words["vague"]

    def _description(self, words: "_Words") -> str:
        item, dice = words.item, words.dice
        forms = [] if dice.hit(NO_DESCRIPTION[item.clarity]) else self._sentences(item.clarity, words.language, dice)
        forms += self._about_policy(item, dice)
        return " ".join(filter(None, map(words.fill, forms)))

    def _sentences(self, clarity: Clarity, language: str, dice: Dice) -> list[str]:
        forms = self.forms
        if clarity is Clarity.CLEAR:
            found = [dice.pick(forms["opening"])] + [dice.pick(forms["feature"]) for _ in range(dice.randint(1, 2))]
        else:
            found = [dice.pick(forms["opening_vague"])]
        if dice.hit({Clarity.CLEAR: 0.0, Clarity.PARTIAL: 0.9, Clarity.VAGUE: 0.25}[clarity]):
            found.append(dice.pick(forms["feature"]))
        if clarity is not Clarity.VAGUE or dice.hit(0.4):
            found += [dice.pick(forms["shared"]) for _ in range(dice.randint(0, 2))]
        if dice.hit(DISTRACTOR_SHARE):
            found.append(dice.pick(forms["distractor"]))
        filler = forms["filler" if language == "en" or dice.hit(0.4) else f"filler_{language}"]
        return found + dice.sample(filler, dice.randint(0, 3))

    def _about_policy(self, item: Item, dice: Dice) -> list[str]:
        """What gives a violation away, or an honest sentence with the same words."""
        found = []
        for policy in self.goods.policies:
            if policy.name in item.violations:
                found += [dice.pick(policy.phrases)] if dice.hit(SPOKEN_SHARE) else []
            elif item.leaf.key in policy.leaves and dice.hit(HONEST_SHARE):
                found.append(dice.pick(policy.honest))
        return found


class _Words:
    """Fills the names in a form. The thing keeps its noun; what is said of it is drawn anew, each once."""

    def __init__(self, item: Item, goods: Goods, dice: Dice) -> None:
        self.item, self.goods, self.dice = item, goods, dice
        self.language, leaf = item.author.language, item.leaf
        kind = dice.weighted(tuple(leaf.nouns), [1 / (1 + 0.6 * rank) for rank in range(len(leaf.nouns))])
        is_foreign = self.language != "en" and dice.hit(0.75)
        self._noun = dice.pick(getattr(leaf, self.language)) if is_foreign else kind
        own = () if is_foreign else leaf.nouns[kind]
        self._unsaid = {
            "trait": [*own, *dice.sample(leaf.traits, len(leaf.traits))],
            "shared": dice.sample(leaf.shared, len(leaf.shared)),
        }
        self._thing = dice.pick(next(policy.things for policy in goods.policies if policy.things))

    def fill(self, form: str) -> str:
        """The form as a phrase or sentence; names without a value leave no gap."""
        if not self.item.brand:
            form = form.replace(" by {brand}", "")
        said = " ".join(form.format_map(self).split()).strip(" ,-")
        return said[:1].upper() + said[1:] if said.endswith(".") else said

    def __getitem__(self, name: str) -> str:
        item = self.item
        if name in ("noun", "thing"):
            return self._noun if name == "noun" else self._thing
        if name in ("brand", "colour", "condition"):
            return str(getattr(item, name))
        if name in self._unsaid:
            return self._unsaid[name].pop(0) if self._unsaid[name] else ""
        if name == "vague":
            return self.dice.pick(item.leaf.vague)
        return self._other(item.leaf) if name == "other" else _contact(name, self.dice)

    def _other(self, leaf: Leaf) -> str:
        near = self.goods.leaves[self.dice.pick(leaf.near)]
        return self.dice.pick(tuple(near.nouns))


def _contact(name: str, dice: Dice) -> str:
    nick = dice.pick(("sam", "lena", "topdeal", "mike", "nora", "shop")) + str(dice.randrange(10, 99))
    phone = f"0{dice.randrange(150, 180)} {dice.randrange(10**6, 10**7)}"
    return {"phone": phone, "mail": f"{nick}(at)example.org", "nick": nick}[name]


def _messy(text: str, item: Item, goods: Goods, dice: Dice) -> str:
    """Abbreviations, typos, emoji, capitals: the more of them, the sloppier the seller."""
    sloppiness = item.author.sloppiness
    for word, short in goods.phrases["abbreviations"].items():
        if word in text and dice.hit(sloppiness * 0.7):
            text = text.replace(word, short)
    words = [_typo(word, dice) if len(word) > 4 and dice.hit(sloppiness * 0.08) else word for word in text.split(" ")]
    text = " ".join(words)
    if text and dice.hit(sloppiness * 0.25):
        text = f"{text} {dice.pick(goods.phrases['emoji'])}"
    if dice.hit(sloppiness * 0.3):
        return text.upper() if dice.hit(0.25) else text.lower()
    return text


def _typo(word: str, dice: Dice) -> str:
    """Two letters swapped, one lost or one doubled."""
    at = dice.randrange(1, len(word) - 2)
    kind = dice.randrange(3)
    if kind == 0:
        return word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    return word[:at] + (word[at] * 2 if kind == 1 else "") + word[at + 1 :]


def _reworded(title: str, description: str, dice: Dice) -> tuple[str, str]:
    """The words somebody changes who puts a thing up again."""
    changes: list[Any] = [
        lambda said: f"{said}!!",
        lambda said: f"AGAIN: {said}",
        lambda said: f"{said} (price drop)",
        lambda said: " ".join(reversed(said.split(" ", 1))),
        lambda said: said,
    ]
    if dice.hit(0.3):
        description = f"{description} Still available.".strip()
    return dice.pick(changes)(title), description
