"""How the hostile catalog files and photos of this corpus were made: ``python -m tests.corpus.make_catalog_corpus``.

The files are committed, so that a new version of a library cannot quietly change what is tested.
"""

import gzip
import io
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from tests import builders

HERE = Path(__file__).parent
HEADER = "id,title,description,price,currency,category,flags,listed_at,brand\n"
GOOD = "ok,Garden rake,A rake,5,GBP,Home / Garden,,2026-01-02,Oak\n"


def _zipped(data: bytes) -> bytes:
    """An archive of one file, which compresses well."""
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        packed.writestr(zipfile.ZipInfo("listings.csv"), data, zipfile.ZIP_DEFLATED)
    return archive.getvalue()


REJECTED_ROWS: dict[str, str | bytes] = {
    "open_quote.csv": HEADER + 'a,"Broken rake,x,1,GBP,Home,,,\n' + GOOD,
    "text_after_quote.csv": HEADER + 'a,"19" screen",x,1,GBP,Home,,,\n' + GOOD,
    "too_few_cells.csv": HEADER + "a,Rake,x\n" + GOOD,
    "too_many_cells.csv": HEADER + "a,Rake,one, two,1,GBP,Home,,,\n" + GOOD,
    "nul_byte.csv": HEADER + "a,Ra\x00ke,x,1,GBP,Home,,,\n" + GOOD,
    "invalid_utf8.csv": HEADER.encode() + b"a,Caf\xe9,x,1,GBP,Home,,,\n" + GOOD.encode(),
    "nan_price.csv": HEADER + "a,Rake,x,NaN,GBP,Home,,,\n" + GOOD,
    "infinite_price.csv": HEADER + "a,Rake,x,-inf,GBP,Home,,,\n" + GOOD,
    "overflowing_price.csv": HEADER + "a,Rake,x,1e999,GBP,Home,,,\n" + GOOD,
    "negative_price.csv": HEADER + "a,Rake,x,-3,GBP,Home,,,\n" + GOOD,
    "comma_price.csv": HEADER + 'a,Rake,x,"12,50",GBP,Home,,,\n' + GOOD,
    "underscore_price.csv": HEADER + "a,Rake,x,1_000,GBP,Home,,,\n" + GOOD,
    "missing_ref.csv": HEADER + ",Rake,x,1,GBP,Home,,,\n" + GOOD,
    "missing_title.csv": HEADER + "a,,x,1,GBP,Home,,,\n" + GOOD,
    "invisible_title.csv": HEADER + "a,\u200b\u202e\ufeff ,x,1,GBP,Home,,,\n" + GOOD,
    "long_title.csv": HEADER + f"a,{'x' * 1001},x,1,GBP,Home,,,\n" + GOOD,
    "emoji_title.csv": HEADER + "a," + "\U0001f600" * 1001 + ",x,1,GBP,Home,,,\n" + GOOD,
    "duplicate_ref.csv": HEADER + GOOD + GOOD,
    "unknown_flag.csv": HEADER + "ok,Rake,x,1,GBP,Home,witchcraft,,\n",
    "bad_time.csv": HEADER + "ok,Rake,x,1,GBP,Home,,02/01/2026,\n",
    "bad_currency.csv": HEADER + "ok,Rake,x,1,pounds,Home,,,\n",
    "deep_category.csv": HEADER + f"ok,Rake,x,1,GBP,{' / '.join('abcdefghijk')},,,\n",
    "long_description.csv": HEADER + f"ok,Rake,{'x' * 20_001},1,GBP,Home,,,\n",
    "lone_surrogate.jsonl": '{"id": "a", "title": "half \\ud83d"}\n{"id": "ok", "title": "Rake"}\n',
    "nan_price.jsonl": '{"id": "a", "title": "Rake", "price": NaN}\n{"id": "ok", "title": "Rake"}\n',
    "not_json.jsonl": '{"id": "ok", "title": "Rake"}\n{"id": "a", title: "Rake"}\n',
    "not_an_object.jsonl": '{"id": "ok", "title": "Rake"}\n"just text"\n',
    "deep_nesting.jsonl": '{"id": "ok", "title": "Rake"}\n{"id": "a", "title": ' + "[" * 5_000 + "]" * 5_000 + "}\n",
    "title_is_a_list.jsonl": '{"id": "ok", "title": "Rake"}\n{"id": "a", "title": ["Rake"]}\n',
    "endless_integer.jsonl": '{"id": "ok", "title": "Rake"}\n{"id": "a", "title": "Rake", "price": ' + "9" * 5_000 + "}\n",
    "true_price.jsonl": '{"id": "ok", "title": "Rake"}\n{"id": "a", "title": "Rake", "price": true}\n',
}

REFUSED_FILES: dict[str, str | bytes] = {
    "utf16.csv": (HEADER + GOOD).encode("utf-16"),
    "gzip.csv": gzip.compress((HEADER + GOOD).encode(), mtime=0),
    "zip_bomb.csv": _zipped(bytes(8 << 20)),
    "empty.csv": "",
    "column_twice.csv": "id,title,title\na,b,c\n",
    "no_title.csv": "id,price\na,1\n",
    "array.json": '[{"id": "a", "title": "Rake"}]\n',
    "not_parquet.parquet": "PAR1 but nothing more",
    "header_not_utf8.csv": b"id,title,caf\xe9\na,b,c\n",
    "image.png.csv": b"\x89PNG\r\n\x1a\n",
    "header_quote.csv": '"id,title\na,b\n',
}

ACCEPTED_ROWS: dict[str, str | bytes] = {
    "byte_order_mark.csv": b"\xef\xbb\xbf" + (HEADER + GOOD).encode(),
    "byte_order_mark.jsonl": b"\xef\xbb\xbf" + b'{"id": "ok", "title": "Garden rake"}\n',
    "semicolons.csv": (HEADER + GOOD).replace(",", ";"),
    "tabs.tsv": (HEADER + GOOD).replace(",", "\t"),
    "windows_lines.csv": (HEADER + GOOD).replace("\n", "\r\n"),
    "old_mac_lines.csv": (HEADER + GOOD).replace("\n", "\r"),
    "blank_lines.csv": HEADER + "\n\n" + GOOD + "\n",
    "no_last_newline.csv": (HEADER + GOOD).rstrip("\n"),
    "line_breaks_in_cell.csv": HEADER + 'ok,Garden rake,"one\n\ntwo ""quoted""",5,GBP,Home / Garden,,,\n',
    "override_characters.csv": HEADER + "ok,Gar\u202eden\u200b ra\u2066ke\ufeff,A rake,5,GBP,Home / Garden,,,\n",
    "decomposed_accents.csv": HEADER + "ok,Cafe\u0301 chair,A chair,5,GBP,Home / Garden,,,\n",
    "joined_emoji.csv": HEADER + "ok,Toys \U0001f468\u200d\U0001f469\u200d\U0001f467,x,5,GBP,Toys,,,\n",
    "formula.csv": HEADER + "ok,=1+1,@SUM(A1),5,GBP,Home / Garden,,,\n",
    "empty_price.csv": HEADER + "ok,Garden rake,,,,,,,\n",
    "pound_sign.csv": HEADER + "ok,Garden rake,x,5,£,Home / Garden,,,\n",
}


def png(width: int, height: int) -> bytes:
    """A PNG whose header claims a size that its few bytes do not hold."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 64)) + chunk(b"IEND", b"")


def photos() -> tuple[dict[str, bytes], dict[str, bytes]]:
    """(accepted, refused) photos by file name."""
    small = builders.picture(3, (48, 32))
    jpeg = builders.encoded(small)
    rotated = Image.Exif()
    rotated[0x0112] = 6
    frames = [builders.picture(i, (48, 32)) for i in (3, 4)]
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr(zipfile.ZipInfo("payload.html"), "<script>alert(1)</script>")
    wide = Image.fromarray(np.linspace(0, 65535, 48 * 32, dtype=np.uint16).reshape(32, 48))
    accepted = {
        "plain.jpg": jpeg,
        "cmyk.jpg": builders.encoded(small.convert("CMYK")),
        "grey.jpg": builders.encoded(small.convert("L")),
        "turned_by_exif.jpg": builders.encoded(small, exif=rotated),
        "broken_exif.jpg": builders.encoded(small, exif=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\xff\xff"),
        "animated.webp": builders.encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated.png": builders.encoded(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "transparent.png": builders.encoded(Image.new("RGBA", (48, 32), (255, 0, 0, 0)), "PNG"),
        "palette.png": builders.encoded(small.quantize(16), "PNG", transparency=0),
        "grey16.png": builders.encoded(wide, "PNG"),
        "one_bit.png": builders.encoded(small.convert("1"), "PNG"),
        "zip_at_the_end.jpg": jpeg + archive.getvalue(),
        "script_in_comment.jpg": builders.encoded(small, comment=b"<script>alert(1)</script>"),
        "png_named_jpg.jpg": builders.encoded(small, "PNG"),
        "very_wide.jpg": builders.encoded(small.resize((4_000, 8))),
    }
    progressive = builders.encoded(small, progressive=True)
    last_scan = progressive[progressive.rindex(b"\xff\xda") : -2]
    refused = {
        "painted_over_200_times.jpg": progressive[:-2] + 200 * last_scan + progressive[-2:],
        "20000_comments.jpg": jpeg[:2] + 20_000 * b"\xff\xfe\0\2" + jpeg[2:],
        "truncated.jpg": jpeg[: len(jpeg) * 2 // 3],
        "head_only.jpg": jpeg[:3],
        "text.jpg": b"not a picture at all\n",
        "empty.jpg": b"",
        "gif.jpg": builders.encoded(small, "GIF"),
        "tiff.jpg": builders.encoded(small, "TIFF"),
        "svg.png": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "one_pixel.png": builders.encoded(Image.new("RGB", (1, 1)), "PNG"),
        "zero_pixels.png": png(0, 0),
        "bomb_41_megapixels.png": png(41_000, 1_000),
        "bomb_2500_megapixels.png": png(50_000, 50_000),
        "too_few_pixels.png": png(64, 64),
        "broken_checksum.png": builders.encoded(small, "PNG").replace(b"IDAT", b"IDAX"),
    }
    return accepted, refused


def main() -> None:
    """Write every file."""
    accepted, refused = photos()
    for folder, files in {
        "reject/rows": REJECTED_ROWS,
        "reject/files": REFUSED_FILES,
        "accept/rows": ACCEPTED_ROWS,
        "accept/photos": accepted,
        "reject/photos": refused,
    }.items():
        (HERE / folder).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (HERE / folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


if __name__ == "__main__":
    main()
