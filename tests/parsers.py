"""Every parser of what comes from outside, as a table: bytes in, a result or an error of ours out."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from unittest.mock import patch

from curation import settings
from curation.catalog import ingest, mapping, reports, sidecar, taxonomy_file
from curation.catalog.drafts import Draft, Rules, fill
from curation.catalog.features import FeatureConfig
from curation.catalog.mapping import FileMap
from curation.catalog.photos import PhotoCache
from curation.catalog.readers import Broken, Row, Table
from curation.catalog.rejects import Reject, Rejects
from curation.catalog.tokens import TokenConfig, Tokenizer
from curation.errors import RefurbishError, RowError
from curation.labelstudio import client, labelconfig, payloads, strictjson
from curation.release.genotype import Genotype
from curation.review import probabilities
from curation.store.files import FileStore
from tests import builders
from tests.parser_paths import VIOLATIONS, WORDS, payload, photo
from tests.parser_seeds import GENOTYPE, LINES, MAPPING, PAGE, ROWS, SIDECAR, files, small_parquet
from trainer import state
from trainer.commands import _named
from trainer.config import TrainConfig
from webhooks.api import cursors
from webhooks.api.models import ReportsRequest, ScoreRequest

ROW_MAP = FileMap.model_validate(
    {
        "ref": "id",
        "title": "title",
        "description": "description",
        "price": "price",
        "currency": "currency",
        "category": "category",
        "photos": "photos",
        "flags": "flags",
        "listed_at": {"column": "listed_at", "format": "%d.%m.%Y"},
        "group": "group",
        "attributes": ["brand", "extra"],
    }
)

Parse = Callable[[Path, bytes], object]


@dataclass(frozen=True, slots=True)
class Parser:
    """One parser. `seeds`: what it reads without complaint; `folder`, given to `parse`, is for files of its own."""

    parse: Parse
    seeds: tuple[bytes, ...]


def attempt(parser: Parser, folder: Path, data: bytes) -> str | None:
    """None if the bytes were read, what was said if an error of ours refused them. Any other error goes through."""
    try:
        parser.parse(folder, data)
    except RefurbishError as error:
        return str(error)
    return None


def _table(suffix: str) -> Parse:
    def parse(folder: Path, data: bytes) -> None:
        path = _file(folder, f"rows{suffix}", data)
        with Table(path) as table, Rejects(folder / "rejects.jsonl") as kept:
            for file_map in (_guessed(table), ROW_MAP):
                for row in table.rows():
                    assert isinstance(row, Row | Broken)
                    if isinstance(row, Row):
                        _drafted(row, file_map)
                        kept.add(Reject(row.n, row.line, "x", "x", "x", "row", row.values, row.raw))
                    else:
                        kept.add(Reject(row.n, row.line, "row", row.code, row.reason, "row", raw=row.raw))

    return parse


def _guessed(table: Table) -> FileMap:
    try:
        return ingest.choose_map(table, None)[0]
    except RefurbishError:
        return ROW_MAP


def _drafted(row: Row, file_map: FileMap) -> None:
    draft = Draft(row.n, row.line, row.values, row.raw)
    try:
        fill(draft, Rules(file_map, VIOLATIONS))
    except RowError:
        return
    assert len(draft.record(()).content_sha256) == 64


def _file(folder: Path, name: str, data: bytes) -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def _json(data: bytes) -> object:
    """Values that a parser is given when something else has read the JSON: leniently."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return {}


def _task(_folder: Path, data: bytes) -> object:
    found = client._body(data.decode("utf-8", "replace"))
    return payloads.events_of_task(found, "labelstudio:1", WORDS) if isinstance(found, dict) else None


def _sidecar(_folder: Path, data: bytes) -> object:
    found = sidecar.further_files(data)
    sidecar.small(sidecar.read(data))
    return found


def _config(of: Callable[[Mapping[str, object]], object]) -> Parse:
    def parse(_folder: Path, data: bytes) -> object:
        found = _json(data)
        return of(found) if isinstance(found, dict) else None

    return parse


def _tokenizer(_folder: Path, data: bytes) -> object:
    """As it is, and as the model of a header whose sum is right."""
    config = json.dumps(TokenConfig().to_json(), sort_keys=True)
    digest = hashlib.sha256(config.encode() + data).hexdigest()
    head = json.dumps({"format": "refurbish-tokens", "sha256": digest, "config": config}).encode()
    return _any_of([lambda: Tokenizer.from_bytes(data), lambda: Tokenizer.from_bytes(head + b"\n" + data)])


def _any_of(ways: Sequence[Callable[[], object]]) -> object:
    """Try all; the first result, or the last refusal."""
    found: list[object] = []
    for way in ways:
        try:
            found.append(way())
        except RefurbishError as error:
            refused = error
    if not found:
        raise refused
    return found[0]


def _stored(load: Callable[[FileStore, str], object], suffix: str) -> Parse:
    def parse(folder: Path, data: bytes) -> object:
        files = FileStore(folder)
        return load(files, files.put(data, suffix, durable=False))

    return parse


def _environment(_folder: Path, data: bytes) -> object:
    text = data.decode("utf-8", "surrogateescape").replace("\x00", "")

    def one(name: str) -> object:
        with patch.dict(os.environ, {f"REFURBISH_{name}": text}):
            return settings.load()

    return _any_of([partial(one, name) for name in ("VIOLATIONS", "PORT")])


def _settings(folder: Path, data: bytes) -> object:
    file = _file(folder, "refurbish.toml", data)
    return settings.load(file), settings.origins(file, {})


def _cursor(_folder: Path, data: bytes) -> object:
    return cursors.read("runs", data.decode("utf-8", "surrogateescape"))


def _body(model: type[ScoreRequest | ReportsRequest]) -> Parse:
    def parse(_folder: Path, data: bytes) -> object:
        from webhooks.api.contract import Refused, _checked

        try:
            return _checked(model, strictjson.loads(data))
        except Refused:
            return None

    return parse


def _cached_photo(folder: Path, data: bytes) -> object:
    media = FileStore(folder)
    return PhotoCache(None, 16).load([[media.put(data, ".jpg", durable=False)]], 1, media)


PARSERS: Mapping[str, Parser] = {
    "hook body": Parser(payload, files("labelstudio/*.json")),
    "strict JSON": Parser(lambda _, data: strictjson.loads(data), (b'{"a": [1, 2.5, null, "x", {"b": true}]}',)),
    "task from Label Studio": Parser(_task, files("labelstudio/api_task.json")),
    "labeling config": Parser(lambda _, data: labelconfig.require_questions(data.decode("utf-8", "surrogateescape")), (PAGE,)),
    "CSV catalog": Parser(_table(".csv"), (ROWS, ROWS.replace(b",", b";"), *files("accept/rows/*.csv"))),
    "JSON Lines catalog": Parser(_table(".jsonl"), (LINES, LINES * 3)),
    "Parquet catalog": Parser(_table(".parquet"), (small_parquet(),)),
    "reports of a category": Parser(
        lambda folder, data: reports.read(_file(folder, "reports.csv", data)), (b"ref,reason\na,copied\nb,\n",)
    ),
    "mapping": Parser(lambda folder, data: mapping.load(_file(folder, "map.toml", data)), (MAPPING,)),
    "taxonomy lines": Parser(
        lambda folder, data: taxonomy_file.load(_file(folder, "t.txt", data)), (b"Home / Garden\n# no\nToys\n",)
    ),
    "taxonomy JSON": Parser(
        lambda folder, data: taxonomy_file.load(_file(folder, "t.json", data)),
        (b'{"Home": {"Garden": {}}}', b'["Home > Garden"]'),
    ),
    "settings file": Parser(_settings, (b'port = 80\nviolations = ["a", "b"]\n[train]\nmixup = 0\n',)),
    "settings in the environment": Parser(_environment, (b'["a"]',)),
    "sidecar": Parser(_sidecar, (json.dumps(SIDECAR).encode(),)),
    "feature config": Parser(_config(FeatureConfig.from_json), (json.dumps(FeatureConfig().to_json()).encode(),)),
    "token config": Parser(_config(TokenConfig.from_json), (json.dumps(TokenConfig().to_json()).encode(),)),
    "training config": Parser(_config(TrainConfig.from_json), (b'{"epochs": 3, "mixup": 0.2, "recipe": "selfie"}',)),
    "training options": Parser(
        lambda _, data: _named((data.decode("utf-8", "surrogateescape"),)),
        (b"epochs=3", b'architecture={"a": 1}', b"recipe=selfie"),
    ),
    "tokenizer": Parser(_tokenizer, (Tokenizer(TokenConfig(mode="hashed")).to_bytes(),)),
    "genotype": Parser(
        lambda _, data: Genotype.from_json(data.decode("utf-8", "surrogateescape")), (json.dumps(GENOTYPE).encode(),)
    ),
    "probabilities": Parser(_stored(probabilities.load_judged, probabilities.SUFFIX), (small_parquet(),)),
    "state of a fit": Parser(
        _stored(state.load, state.SUFFIX),
        (b'\x48\0\0\0\0\0\0\0{"about":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}          {}',),
    ),
    "cursor": Parser(_cursor, (cursors.write("runs", 7).encode(), cursors.write("reports", 7).encode())),
    "body of a score": Parser(
        _body(ScoreRequest),
        (b'{"title": "Rake", "price": 5, "attributes": {"a": 1}, "photos": [{"sha256": "' + b"0" * 64 + b'"}]}',),
    ),
    "body of reports": Parser(
        _body(ReportsRequest), (b'{"reports": [{"ref": "a", "reason": "other", "words": "x", "at": "2026-01-01"}]}',)
    ),
    "photo": Parser(
        photo,
        (
            *files("accept/photos/*"),
            *(builders.encoded(builders.picture(size=(24, 16)), fmt) for fmt in ("JPEG", "PNG", "WEBP")),
        ),
    ),
    "stored photo": Parser(_cached_photo, (builders.encoded(builders.picture(size=(24, 16))),)),
}
"""By name. Arguments of addresses and headers are parsed by the service: tests/property/test_receive.py, test_api_schema.py."""
