"""The labeling page: what a moderator sees and which questions it asks.

The page is a function of the taxonomy and the policy only, so "is the project's page ours?" is
a comparison of two strings. Texts of sellers are shown by tags that never interpret HTML.
"""

from collections.abc import Iterable, Mapping
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

from curation.errors import LabelStudioError, shorten
from curation.types import NO_VIOLATION, PATH_SEPARATOR, Question

CATEGORY = Question.CATEGORY.value
VIOLATION = Question.VIOLATION.value
NOTE = "note"
ANCHOR = "title"
"""The object tag that all answers are given about (`to_name`)."""

STYLE = """
.rf{display:grid;grid-template-columns:minmax(300px,5fr) minmax(340px,6fr);gap:24px;align-items:start;padding:4px 8px}
@media (max-width:900px){.rf{grid-template-columns:1fr}}
.rf-card{border:1px solid rgba(127,127,127,.28);border-radius:12px;padding:14px 18px;margin-bottom:16px}
.rf-ask{border-left:4px solid #f5a524;background:rgba(245,165,36,.08)}
.rf-hint{border-left:4px solid #4c7ef3;background:rgba(76,126,243,.08)}
.rf h3{font-size:12px !important;line-height:1.3 !important;font-weight:600 !important;letter-spacing:.05em;
text-transform:uppercase;opacity:.62;margin:14px 0 4px !important}
.rf-card h3:first-child{margin-top:0 !important}
.rf .lsf-htx-richtext{line-height:1.45}
.rf .lsf-richtext__line{padding-left:0}
.rf-title .lsf-htx-richtext{font-size:20px;font-weight:650;line-height:1.3}
.rf-price .lsf-htx-richtext{font-size:17px;font-weight:600;opacity:.85;margin-bottom:8px}
.rf-photos{margin-bottom:16px}
.rf-text{max-height:260px;overflow:auto}
.rf-near ul{display:grid;grid-template-columns:repeat(4,1fr);gap:10px;list-style:none;margin:4px 0 0;padding:0}
.rf-near li{font-size:12px;line-height:1.3;overflow-wrap:anywhere}
.rf-near img,.rf-near b{display:block;width:100%;aspect-ratio:1;object-fit:cover;border-radius:8px;margin-bottom:4px;
background:rgba(127,127,127,.15)}
.rf-near b{display:grid;place-items:center;font-weight:400;opacity:.75}
.rf-near p{margin:0}
.rf-pick .lsf-taxonomy,.rf-pick .htx-taxonomy{width:100%}
.rf-pick .lsf-choices{display:grid;grid-template-columns:1fr 1fr;column-gap:12px;margin:0}
"""
"""Two columns, readable in the light and the dark theme. Class names beginning with ``lsf-`` are the editor's own."""


PAGE = """<View>
  <Style>{style}</Style>
  <View className="rf">
    <View>
      <View className="rf-title"><Text name="{anchor}" value="$title"/></View>
      <View className="rf-price"><Text name="price" value="$price_text"/></View>
      <View className="rf-photos">
        <Image name="photos" valueList="$images" maxWidth="100%" zoom="true" zoomControl="true" rotateControl="false"/>
      </View>
      <View className="rf-card">
        <Header value="Description"/>
        <View className="rf-text"><Text name="description" value="$description"/></View>
      </View>
      <View className="rf-card">
        <Header value="Most similar verified listings"/>
        <View className="rf-near"><HyperText name="similar" value="$similar" inline="true" clickableLinks="false"/></View>
      </View>
    </View>
    <View>
      <View className="rf-card rf-ask">
        <Header value="Why you are asked"/>
        <Text name="reason" value="$reason"/>
        <Header value="The seller's category"/>
        <Text name="seller_category" value="$seller_category"/>
      </View>
      <View className="rf-card rf-hint">
        <Header value="The detector suggests"/>
        <Text name="suggestion" value="$suggestion_text"/>
      </View>
      <View className="rf-card rf-pick">
        <Header value="Right category"/>
        <Taxonomy name="{category}" toName="{anchor}" leafsOnly="true" maxUsages="1" required="true" showFullPath="true"
          pathSeparator={separator} placeholder="Search or pick one category" minWidth="320px"
          requiredMessage="Pick the right category, or press Skip if you cannot tell.">
{tree}
        </Taxonomy>
        <Header value="Violations"/>
        <Choices name="{violation}" toName="{anchor}" choice="multiple" required="true"
          requiredMessage="Say “Nothing wrong” or tick what applies.">
{choices}
        </Choices>
        <Header value="Note (optional)"/>
        <TextArea name="{note}" toName="{anchor}" rows="2" maxSubmissions="1" editable="true"
          placeholder="Anything worth knowing"/>
      </View>
    </View>
  </View>
</View>"""


def build(categories: Iterable[str], violations: Mapping[str, str]) -> str:
    """The XML of the page for these leaf paths (joined by `` / ``) and violations, name → title."""
    choices = [("Nothing wrong", NO_VIOLATION), *((title, name) for name, title in violations.items())]
    return PAGE.format(
        style=escape(STYLE),
        anchor=ANCHOR,
        category=CATEGORY,
        violation=VIOLATION,
        note=NOTE,
        separator=quoteattr(PATH_SEPARATOR),
        tree=_choices(_tree(sorted(set(categories))), 5),
        choices=_named(choices, 5),
    )


def is_same(left: str, right: str) -> bool:
    """Whether two pages are the same but for white space at line ends."""
    return [line.rstrip() for line in left.strip().splitlines()] == [line.rstrip() for line in right.strip().splitlines()]


def require_questions(config: str) -> None:
    """Refuse a page without our two questions, whose answers could not be read."""
    try:
        root = ElementTree.fromstring(config)  # noqa: S314  expat refuses entity bombs since 2.4
    except (ElementTree.ParseError, TypeError, ValueError) as error:  # no text at all, or half a surrogate pair
        raise LabelStudioError(
            f"the project's labeling config is not XML ({error}): {shorten(config)}; run `refurbish labelstudio setup`"
        ) from None
    found = {(tag.tag, tag.get("name")) for tag in root.iter()}
    missing = [f"{kind} {name!r}" for kind, name in (("Taxonomy", CATEGORY), ("Choices", VIOLATION)) if (kind, name) not in found]
    if missing:
        raise LabelStudioError(
            f"the project's labeling config has no {' and no '.join(missing)}; run `refurbish labelstudio setup` to put ours back"
        )


Tree = dict[str, "Tree"]


def _tree(paths: Iterable[str]) -> Tree:
    root: Tree = {}
    for path in paths:
        node = root
        for name in path.split(PATH_SEPARATOR):
            node = node.setdefault(name, {})
    return root


def _choices(tree: Mapping[str, Tree], depth: int) -> str:
    indent = "  " * depth
    lines = []
    for name, below in tree.items():
        if below:
            lines.append(f"{indent}<Choice value={quoteattr(name)}>\n{_choices(below, depth + 1)}\n{indent}</Choice>")
        else:
            lines.append(f"{indent}<Choice value={quoteattr(name)}/>")
    return "\n".join(lines)


def _named(choices: Iterable[tuple[str, str]], depth: int) -> str:
    indent = "  " * depth
    return "\n".join(f"{indent}<Choice value={quoteattr(shown)} alias={quoteattr(name)}/>" for shown, name in choices)
