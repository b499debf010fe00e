import pytest

from frugalclip.synthetic.english import article, clean_name, counted, listed, noun, plural, sentence


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("cat", "a cat", "two cats"),
        ("ox", "an ox", "two oxen"),
        ("bus", "a bus", "two buses"),
        ("fairy", "a fairy", "two fairies"),
        ("monkey", "a monkey", "two monkeys"),
        ("leaf", "a leaf", "two leaves"),
        ("fish", "a fish", "two fish"),
        ("snowman", "a snowman", "two snowmen"),
        ("person surfing", "a person surfing", "two people surfing"),
        ("man with white cane", "a man with white cane", "two men with white cane"),
        ("woman pilot", "a woman pilot", "two women pilots"),
        ("leaf fluttering in wind", "a leaf fluttering in wind", "two leaves fluttering in wind"),
        ("ear of corn", "an ear of corn", "two ears of corn"),
        ("glasses", "a pair of glasses", "two pairs of glasses"),
        ("grapes", "a bunch of grapes", "two bunches of grapes"),
        ("people hugging", "a group of people hugging", "two groups of people hugging"),
        ("bread", "a piece of bread", "two pieces of bread"),
        ("bow and arrow", "a bow and arrow", "two sets of bow and arrow"),
        ("no smoking", "a no smoking symbol", "two no smoking symbols"),
        ("Aries", "an Aries symbol", "two Aries symbols"),
        ("person: bald", "a bald person", "two bald people"),
        (
            "family: man, woman, girl",
            "a family of a man, a woman and a girl",
            "two families of a man, a woman and a girl",
        ),
        ("nine o'clock", "a clock showing nine o'clock", "two clocks showing nine o'clock"),
        ("fast up button", "a fast up button", "two fast up buttons"),
        ("compass", "a compass", "two compasses"),
        ("Statue of Liberty", "a picture of the Statue of Liberty", "two pictures of the Statue of Liberty"),
    ],
)
def test_names_become_phrases_that_can_be_counted(name: str, one: str, two: str):
    assert counted(noun(name), 1) == one
    assert counted(noun(name), 2) == two


def test_size_and_colour_stand_where_they_belong():
    assert counted(noun("cat"), 1, before="small", colour="orange") == "a small orange cat"
    assert counted(noun("cat"), 1, colour="orange") == "an orange cat"
    assert counted(noun("glasses"), 3, before="tiny", colour="red") == "three tiny pairs of red glasses"


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        *[
            (word, "an")
            for word in (
                "apple",
                "umbrella",
                "hour",
                "X-ray",
                "e-mail",
                "SOS button",
                "8 ball",
                "ATM sign",
                "unimportant thing",
            )
        ],
        *[
            (word, "a")
            for word in (
                "unicorn",
                "euro banknote",
                "one-piece swimsuit",
                "ewe",
                "t-shirt",
                "P button",
                "uniform",
                "hat",
                "u.s. flag",
            )
        ],
    ],
)
def test_articles_follow_the_sound(phrase: str, expected: str):
    assert article(phrase) == expected


@pytest.mark.parametrize(
    ("word", "expected"),
    [("box", "boxes"), ("church", "churches"), ("day", "days"), ("human", "humans"), ("wolf", "wolves")],
)
def test_plurals(word: str, expected: str):
    assert plural(word) == expected


def test_captions_that_name_one_thing_become_names():
    assert clean_name("A brown bear.") == "brown bear"
    assert clean_name("A button (blood type)") == "A button"
    assert clean_name("three o’clock") == "three o'clock"
    assert clean_name("Mrs. Claus") == "Mrs. Claus"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "A wheel! Put it there",
        "BlueMan#101",
        "12_34",
        "2004 08 25",
        "a sentence which goes on and on about far too many things",
    ],
)
def test_captions_that_name_nothing_do_not(text: str):
    assert clean_name(text) is None


def test_lists_and_sentences():
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
    assert sentence("the cat is red") == "The cat is red."
