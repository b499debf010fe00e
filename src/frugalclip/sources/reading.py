"""The stage that reads data sets: why a sample of a source is not in the manifest, and what it writes."""

from frugalclip.data.ledger import LedgerStage

LEDGER, CLEAN = ".ledger.parquet", ".clean.parquet"  # how the names of ledgers and of mended manifests end

READING = LedgerStage(
    "read",
    {
        "no-image": "no image belongs to the caption",
        "no-caption": "the caption is missing or empty",
        "missing-file": "the image file does not exist",
        "not-a-file": "the image's path is a folder or another thing that is not a file",
        "outside-folder": "the path leaves the data folder; give the folder above as PATH, or absolute paths",
        "not-a-path": "the path cannot be a file's name: it is too long, or holds a NUL",
        "is-url": "the image is a web address; download it first, for example with img2dataset",
        "not-utf8": "the text is not UTF-8; convert the file, for example with: iconv -f latin1 -t utf-8",
        "not-text": "the caption holds NUL bytes: it is binary, or UTF-16 without its mark",
        "structured": "the caption is a structure such as boxes or numbers; name another column",
        "caption-too-long": "the caption is longer than any caption: probably a whole file landed there",
        "wrong-columns": "the row has more or fewer cells than the header",
        "open-quote": "a quote opens in the row and is not closed; close it, or double it within quotes",
        "not-json": "the line is not a JSON object",
        "unsupported-format": "the image format cannot be read; convert it to JPEG, PNG or WebP",
        "several-images": "the row has several pictures, and one is read; give each a row of its own",
        "another-image": "another picture of a sample that is kept; one is read",
        "duplicate-key": "the key was already used",
        "truncated-shard": "the tar ends before the file does; copy the tar again",
        "broken-shard": "the tar's own structure is damaged here; copy the tar again",
        "not-a-shard": "the file is not a tar, or no Parquet file that can be read; copy it again",
        "symlink-loop": "the folder is a link to a folder that was already read",
        "no-permission": "it may not be read; check the permissions",
        "repaired": "kept: its caption was not UTF-8, and there was one sensible way to read it",
        "same-image": "the row shares its image with an earlier row; its captions were added there",
    },
    harmless=frozenset({"symlink-loop", "another-image"}),
)
