"""Names that columns of tables have, by what they hold."""

import re

IMAGE_NAMES = (
    *(
        "image",
        "img",
        "images",
        "imagepath",
        "imgpath",
        "imagefile",
        "imgfile",
        "imagefilename",
        "imagename",
        "imgname",
        "imagefilepath",
    ),
    *(
        "filepath",
        "filename",
        "path",
        "file",
        "localpath",
        "photo",
        "picture",
        "pic",
        "jpg",
        "png",
        "webp",
        "jpeg",
    ),
)
CAPTION_NAMES = (
    *(
        "caption",
        "captions",
        "text",
        "texts",
        "txt",
        "sentence",
        "sentences",
        "alttext",
        "alt",
        "title",
        "description",
        "comment",
        "prompt",
        "name",
    ),
    *("label", "labelname", "classname", "class", "category"),
)
ID_NAMES = ("id", "key", "uid", "sampleid", "imageid")
# numbers or names of images without the ending of their files, where nothing better names them
IMAGE_ID_NAMES = ("imageid", "imgid", "photoid", "pictureid")
LABEL_NAMES = frozenset({"label", "labelname", "classname", "class", "category"})
TEXT_NAMES = frozenset(CAPTION_NAMES) - LABEL_NAMES - {"name"}
# numbers of classes; names where a list of them lies near
INDEX_NAMES = (
    "labelid",
    "labelidx",
    "labelindex",
    "classid",
    "classidx",
    "classindex",
    "categoryid",
    "target",
)
BY_LANGUAGE_NAMES = (
    "captionsbylanguage",
    "captionbylanguage",
    "textsbylanguage",
    "textbylanguage",
    "translations",
    "translation",
    "multilingualcaptions",
)
CODE_NAMES = ("language", "lang", "languagecode", "langcode", "locale")
QUESTION_NAMES = ("question", "questions", "query")
ANSWER_NAMES = ("answer", "answers", "multiplechoiceanswer", "choices", "options")


def is_image_name(name: str) -> bool:
    """Whether a column has a name for images."""
    return plain_name(name) in IMAGE_NAMES


def plain_name(name: str) -> str:
    """A column's name in lower case, without spaces, underscores, dots and hyphens."""
    return re.sub(r"[\s_.\-]", "", name).lower()
