"""How the hostile deliveries and small files of this corpus were made: ``python -m tests.corpus.make_payload_corpus``.

One trick a file. A small file's name begins with the parser it is for, as `tests.parsers.PARSERS` calls it, ``-`` for spaces.
"""

import copy
import json
from pathlib import Path
from typing import Any

from tests.parser_seeds import GENOTYPE, MAPPING, SIDECAR

HERE = Path(__file__).parent
CREATED: dict[str, Any] = json.loads((HERE / "labelstudio" / "annotation_created.json").read_text("utf-8"))
SOUND = json.dumps({"action": "ANNOTATIONS_DELETED", "project": {"id": 7}, "annotations": [{"id": 1}]})


def created(**changes: Any) -> bytes:
    """A submitted annotation with other fields; ``...`` takes a field out."""
    body = copy.deepcopy(CREATED)
    body["annotation"] |= {key: value for key, value in changes.items() if value is not ...}
    for key in [key for key, value in changes.items() if value is ...]:
        del body["annotation"][key]
    return json.dumps(body).encode()


def said(*choices: str, paths: tuple[list[str], ...] = (["Home", "Tools"],)) -> list[dict[str, Any]]:
    """A result with these violations and paths."""
    category = {"from_name": "category", "to_name": "title", "type": "taxonomy", "value": {"taxonomy": list(paths)}}
    return [category, {"from_name": "violation", "to_name": "title", "type": "choices", "value": {"choices": list(choices)}}]


def with_text(text: str) -> bytes:
    """A sound body with one more field."""
    return SOUND.replace("{", f'{{"more": {text}, ', 1).encode()


REJECTED_PAYLOADS = {
    "empty": b"",
    "byte_order_mark": b"\xef\xbb\xbf" + SOUND.encode(),
    "utf16": SOUND.encode("utf-16"),
    "invalid_utf8": SOUND.encode()[:-1] + b', "more": "\xff"}',
    "overlong_utf8": SOUND.encode()[:-1] + b', "more": "\xc0\xaf"}',
    "nul_byte": SOUND.encode() + b"\x00",
    "nul_in_id": SOUND.replace("1}", '"1\\u0000"}').encode(),
    "lone_surrogate_in_action": SOUND.replace("ANNOTATIONS_DELETED", "\\ud800").encode(),
    "deep_list": with_text("[" * 100_000 + "]" * 100_000),
    "deep_as_the_stack": with_text("[" * 150 + "]" * 150),
    "deep_object": with_text('{"a":' * 500 + "1" + "}" * 500),
    "key_twice": with_text('{"a": 1, "a": 2}'),
    "action_twice": SOUND.replace("{", '{"action": "TASKS_DELETED", ', 1).encode(),
    "nan": with_text("NaN"),
    "infinity": with_text("-Infinity"),
    "number_beyond_floats": with_text("1e999"),
    "number_of_5000_digits": with_text("9" * 5_000),
    "leading_zero": with_text("007"),
    "single_quotes": SOUND.replace('"', "'").encode(),
    "two_documents": (SOUND + SOUND).encode(),
    "form": b"payload=" + SOUND.encode(),
    "list": f"[{SOUND}]".encode(),
    "text": b'"ANNOTATIONS_DELETED"',
    "no_action": b'{"annotation": {}}',
    "action_is_a_list": b'{"action": ["ANNOTATION_CREATED"]}',
    "no_annotation": b'{"action": "ANNOTATION_CREATED", "task": {"id": 1}}',
    "annotation_is_text": b'{"action": "ANNOTATION_CREATED", "task": {"id": 1}, "annotation": "x"}',
    "id_is_a_path": created(id="../../api/projects/1"),
    "id_is_an_object": created(id={"$ne": 1}),
    "id_of_81_characters": created(id="7" * 81),
    "no_id": created(id=...),
    "no_time": created(updated_at=...),
    "time_without_zone": created(updated_at="2026-02-28T09:15:02"),
    "time_before_time": created(updated_at="0001-01-01T00:00:00+14:00"),
    "skip_is_text": created(was_cancelled="false"),
    "result_is_an_object": created(result={"choices": ["none"]}),
    "note_with_a_surrogate": created(result=[{"from_name": "note", "value": {"text": ["\ud800"]}}]),
}

ACCEPTED_PAYLOADS = {
    "unknown_action": b'{"action": "PROJECT_EXPLODED", "project": {"id": 7}}',
    "unknown_action_of_other_alphabets": '{"action": "ΑNNOTATION_CREATED\u202e"}'.encode(),
    "new_fields": created(shiny={"new": [1, 2, 3]}, unique_id="x"),
    "no_payload": b'{"action": "ANNOTATION_CREATED"}',
    "ninety_levels": with_text("[" * 90 + "]" * 90),
    "spaces_around": b" \r\n\t" + SOUND.encode() + b"\n\n",
    "escaped_names": SOUND.replace("action", "\\u0061ction").encode(),
    "unknown_category": created(result=said("none", paths=(["Home", "Spaceships"],))),
    "two_categories": created(result=said("none", paths=(["Home", "Tools"], ["Toys"]))),
    "no_violation_and_one": created(result=said("none", "counterfeit")),
    "unknown_violation": created(result=said("stolen")),
    "numbers_as_violations": created(result=[{"from_name": "violation", "value": {"choices": [1, None, {"a": 1}]}}]),
    "values_without_meaning": created(result=[{"from_name": "category", "value": 7}, {"from_name": ["category"]}, {}]),
    "lead_time_beyond_sense": created(lead_time=1e300),
    "listing_of_nobody": json.dumps({**CREATED, "task": {**CREATED["task"], "data": {}}}).encode(),
}

REJECTED_SMALL: dict[str, bytes] = {
    "mapping.deep.toml": b"ref = " + b"[" * 5_000,
    "mapping.unknown_key.toml": MAPPING + b'\n"\\u001b[2J" = 1\n',
    "mapping.key_twice.toml": MAPPING + b'\nref = "b"\n',
    "mapping.not_utf8.toml": MAPPING.replace(b"brand", b"br\xe4nd"),
    "mapping.no_ref.toml": b'title = "title"\n',
    "taxonomy-JSON.deep.json": b"[" * 100_000,
    "taxonomy-JSON.number.json": b"7",
    "taxonomy-JSON.surrogate.json": b'{"Home": {"\\ud800": {}}}',
    "taxonomy-lines.nul.txt": b"Home\nGar\x00den\n",
    "taxonomy-lines.eleven_levels.txt": b" / ".join([b"x"] * 11),
    "taxonomy-lines.empty.txt": b"# nothing\n",
    "genotype.cycle.json": json.dumps({**GENOTYPE, "normal": [{"from": 2, "to": 2, "op": "skip"}]}).encode(),
    "genotype.unknown_operation.json": json.dumps({**GENOTYPE, "normal": [{"from": 0, "to": 2, "op": "__import__"}]}).encode(),
    "genotype.thousand_nodes.json": json.dumps({**GENOTYPE, "n_nodes": 1000}).encode(),
    "genotype.deep.json": b"[" * 100_000,
    "genotype.key_twice.json": b'{"format": "refurbish-genotype", "format": "x"}',
    "sidecar.deep.json": b"[" * 100_000,
    "sidecar.list.json": b"[]",
    "sidecar.other_format.json": json.dumps({**SIDECAR, "format": "refurbish-detector-99"}).encode(),
    "sidecar.tokenizer_is_a_number.json": json.dumps({**SIDECAR, "tokenizer_sha256": 7}).encode(),
    "sidecar.int8_is_a_list.json": json.dumps({**SIDECAR, "int8": ["x"]}).encode(),
    "settings-file.deep.toml": b"train = " + b"[" * 5_000,
    "settings-file.unknown_key.toml": b"[webhook]\nsecret = 1\n",
    "settings-file.violation_with_nul.toml": b'violations = ["a\\u0000b"]\n',
    "settings-file.violation_twice.toml": b'violations = ["a", "a"]\n',
    "settings-file.endless_seed.toml": b"seed = 0x" + b"f" * 100,
    "settings-file.utf16.toml": "port = 80\n".encode("utf-16"),
    "labeling-config.empty.xml": b"",
    "labeling-config.entities.xml": b'<!DOCTYPE a [<!ENTITY x "x"><!ENTITY y "&x;&x;">]><View>&y;</View>',
    "labeling-config.no_violations.xml": b'<View><Taxonomy name="category" toName="title"/></View>',
    "labeling-config.half.xml": b"<View><Taxonomy",
    "reports-of-a-category.other_columns.csv": b"\x1b[2Jid,reason\na,b\n",
    "reports-of-a-category.not_utf8.csv": b"ref\n\xff\n",
    "cursor.another_list.txt": b"WyJyZXBvcnRzIiw3XQ",
    "cursor.not_base64.txt": b"../../etc/passwd",
    "cursor.negative.txt": b"WyJydW5zIiwtN10",
}


def main() -> None:
    """Write every file."""
    for folder, files in {
        "reject/payloads": {f"{name}.json": data for name, data in REJECTED_PAYLOADS.items()},
        "accept/payloads": {f"{name}.json": data for name, data in ACCEPTED_PAYLOADS.items()},
        "reject/small": REJECTED_SMALL,
    }.items():
        (HERE / folder).mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (HERE / folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
