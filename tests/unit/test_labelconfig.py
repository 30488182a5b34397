"""The labeling page is a function of taxonomy and policy."""

from xml.etree import ElementTree

import pytest

from curation.errors import LabelStudioError
from curation.labelstudio import labelconfig, tasks
from curation.review.neighbours import Near

LEAVES = ["Home / Tools / Drills", "Home / Decor", 'Toys & "Games"']


def test_tree_and_policy_are_on_the_page() -> None:
    """Every leaf can be picked by its path, and every violation by its name; nothing wrong is an answer too."""
    root = ElementTree.fromstring(labelconfig.build(LEAVES, {"adult_content": "Adult content"}))
    drills = root.find(".//Taxonomy[@name='category']/Choice[@value='Home']/Choice[@value='Tools']/Choice[@value='Drills']")
    assert drills is not None
    assert root.find(".//Taxonomy/Choice[@value='Toys & \"Games\"']") is not None
    aliases = {choice.get("alias"): choice.get("value") for choice in root.findall(".//Choices/Choice")}
    assert aliases == {"none": "Nothing wrong", "adult_content": "Adult content"}


def test_every_answer_is_about_a_tag_that_is_shown() -> None:
    """`toName` of each question names an object tag of the page."""
    root = ElementTree.fromstring(labelconfig.build(LEAVES, {"counterfeit": "Counterfeit"}))
    asked = {tag.get("toName") for tag in root.iter() if tag.get("toName")}
    assert asked == {labelconfig.ANCHOR}
    assert root.find(f".//Text[@name='{labelconfig.ANCHOR}']") is not None


def test_order_of_the_leaves_does_not_matter() -> None:
    """The same taxonomy gives the same page, so that a difference means something."""
    assert labelconfig.build(LEAVES, {"counterfeit": "Counterfeit"}) == labelconfig.build(
        LEAVES[::-1] + LEAVES, {"counterfeit": "Counterfeit"}
    )


def test_sellers_texts_are_never_interpreted() -> None:
    """Only tags that show plain text get texts of sellers; the one that interprets HTML gets what we write ourselves."""
    root = ElementTree.fromstring(labelconfig.build(LEAVES, {"counterfeit": "Counterfeit"}))
    assert [tag.get("value") for tag in root.iter() if tag.tag in ("HyperText", "HTML", "Markdown")] == ["$similar"]


def test_our_page_has_our_questions() -> None:
    """The page that is built passes its own check."""
    labelconfig.require_questions(labelconfig.build(LEAVES, {"counterfeit": "Counterfeit"}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("<View/>", "has no Taxonomy 'category' and no Choices 'violation'"),
        ('<View><Taxonomy name="category"/></View>', "has no Choices 'violation'"),
        ("<View", "is not XML"),
    ],
)
def test_pages_without_them_are_refused(config: str, message: str) -> None:
    """Answers to other questions could not be read; the message says how to repair the page."""
    with pytest.raises(LabelStudioError, match=f"{message}.*refurbish labelstudio setup"):
        labelconfig.require_questions(config)


def test_white_space_at_line_ends_is_no_difference() -> None:
    """Label Studio may give a page back with other line ends."""
    page = labelconfig.build(LEAVES, {"counterfeit": "Counterfeit"})
    assert labelconfig.is_same(page, page.replace("\n", "  \r\n") + "\n")
    assert not labelconfig.is_same(page, page.replace("Decor", "Decoration"))


def test_neighbours_are_pictures_by_name_and_escaped_categories() -> None:
    """Nothing of a seller is in that HTML, and a hostile category is shown as it is written."""
    near = (Near("r<1>", "<script>alert(1)</script> / Tools", 0.9, "a" * 64), Near("r2", 'Home / "Tools"', 0.8, None))
    html = tasks.similar_html(near, "http://127.0.0.1:1")
    assert f'src="http://127.0.0.1:1/media/{"a" * 64}.jpg"' in html and "No photo" in html
    assert "<script" not in html and "r&lt;1" not in html and "r<1>" not in html
    assert "&lt;script&gt;" in html and "&quot;Tools&quot;" in html
