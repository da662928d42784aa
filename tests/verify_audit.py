"""Verifies an audit log of inspectd, from src/store/FORMAT.md alone.

    python3 verify_audit.py DATABASE [--evidence DIR] [--anchor SEQUENCE:DIGEST | FILE]...

Prints one line: INTACT, or the first break as {"code": …, "sequence": …}. Needs nothing but the
standard library, so it does not check signatures. It is a second reading of the format, not a copy of
the program's.
"""

import datetime
import hashlib
import json
import os
import sqlite3
import struct
import sys


class Break(Exception):
    """The first thing that does not hold."""

    def __init__(self, code, sequence):
        super().__init__(code)
        self.code, self.sequence = code, sequence


def text(value):
    encoded = value.encode()
    return struct.pack(">q", len(encoded)) + encoded


def digest_of(row, body):
    parts = [
        b"inspectd-chain-1\n",
        struct.pack(">q", row["sequence"]),
        row["prev"],
        text(row["kind"]),
        struct.pack(">q", row["inspection"] or 0),
        struct.pack(">q", row["wall_ms"]),
        struct.pack(">q", row["monotonic_ns"]),
        text(row["boot_id"]),
        bytes([row["clock_synchronized"]]),
        text(body),
    ]
    return hashlib.sha256(b"".join(parts)).digest()


def read_heads(path):
    """The anchors of a file of heads; what is no JSON is passed over."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                continue


def sort_anchors(heads, given, genesis):
    """The anchors of this chain by sequence, after the check of those of others."""
    own = genesis.get("chain_id")
    previous = (genesis.get("previous") or {}).get("head")
    anchors, foreign, has_own = {}, None, False
    for anchor in heads:
        if own is None or anchor["chain_id"] == own:
            has_own = True
            anchors.setdefault(anchor["sequence"], []).append(anchor["digest"])
        elif has_own:
            raise Break("chain_replaced", anchor["sequence"])
        else:
            foreign = anchor
    if foreign is not None and foreign != previous:
        raise Break("chain_replaced", foreign["sequence"])
    for anchor in given:
        if own is None or anchor.get("chain_id") in (None, own):
            anchors.setdefault(anchor["sequence"], []).append(anchor["digest"])
        elif previous is None or anchor["chain_id"] != previous["chain_id"]:
            raise Break("chain_replaced", anchor["sequence"])
    return anchors


def milliseconds(wall):
    """Whole milliseconds since 1970 of an RFC 3339 time with up to nine decimals, in UTC."""
    seconds, _, decimals = wall.rstrip("Z").partition(".")
    moment = datetime.datetime.fromisoformat(seconds + "+00:00")
    return int(moment.timestamp()) * 1000 + int((decimals + "000")[:3])


def columns_differ(row, body):
    serials = (
        finding["value"]
        for finding in body["findings"]
        if finding["kind"] == "serial" and isinstance(finding["value"], str)
    )
    expected = {name: body[name] for name in ("result_id", "station", "recipe", "job_id", "part_id")}
    expected["is_simulated"] = int(body["is_simulated"])
    expected["verdict"] = body["verdict"]["outcome"]
    expected["serial"] = next(serials, None)
    expected["decided_wall_ms"] = milliseconds(body["times"]["decided"]["wall"])
    expected["latency_ms"] = body["timings"]["latency_ms"]
    return any(row["i_" + name] != value for name, value in expected.items())


def check_evidence(folder, body, sequence, removed):
    for crop in body["evidence"]:
        name = crop["sha256"]
        path = os.path.join(folder, name[:2], name + ".png")
        try:
            with open(path, "rb") as file:
                found = hashlib.sha256(file.read()).hexdigest()
        except OSError:
            if removed.get(name, 0) > sequence:
                continue
            raise Break("evidence_missing", sequence) from None
        if found != name:
            raise Break("evidence_altered", sequence)


def removed_files(database):
    removed = {}
    query = "SELECT sequence, body FROM chain WHERE kind = 'retention'"
    for sequence, body in database.execute(query):
        for file in json.loads(body).get("files", []):
            removed[file["sha256"]] = max(sequence, removed.get(file["sha256"], 0))
    return removed


COPIED = (
    "result_id station recipe job_id part_id verdict serial decided_wall_ms latency_ms is_simulated"
).split()


def verify(path, evidence=None, given=()):
    """Raises the first Break; answers the number of records."""
    heads = list(read_heads(path + ".heads"))
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    database.row_factory = sqlite3.Row
    first = database.execute("SELECT body FROM chain WHERE sequence = 1 AND kind = 'genesis'").fetchone()
    anchors = sort_anchors(heads, given, json.loads(first["body"]) if first else {})
    removed = removed_files(database)

    columns = ", ".join(f"i.{name} AS i_{name}" for name in COPIED)
    rows = database.execute(
        f"SELECT c.*, i.body AS i_body, {columns} FROM chain AS c"
        " LEFT JOIN inspections AS i ON i.sequence = c.inspection ORDER BY c.sequence"
    )
    last, last_digest, last_inspection, inspections = 0, bytes(32), 0, 0
    for row in rows:
        sequence = row["sequence"]
        if sequence != last + 1:
            raise Break("missing_record", last + 1)
        if row["prev"] != last_digest:
            raise Break("broken_link", sequence)
        body = row["i_body"] if row["kind"] == "inspection" else row["body"]
        if body is None:
            raise Break("missing_inspection", sequence)
        if digest_of(row, body) != row["digest"]:
            raise Break("altered_record", sequence)
        if any(digest != row["digest"].hex() for digest in anchors.get(sequence, [])):
            raise Break("anchor_differs", sequence)
        if row["kind"] == "inspection":
            last_inspection, inspections = row["inspection"], inspections + 1
            parsed = json.loads(body)
            if columns_differ(row, parsed):
                raise Break("columns_differ", sequence)
            if evidence:
                check_evidence(evidence, parsed, sequence, removed)
        last, last_digest = sequence, row["digest"]

    if last == 0:
        raise Break("missing_record", 1)
    highest, count = database.execute("SELECT coalesce(max(sequence), 0), count(*) FROM inspections").fetchone()
    if highest > last_inspection or count > inspections:
        raise Break("unchained_inspection", last + 1)
    counters = dict(database.execute("SELECT name, seq FROM sqlite_sequence").fetchall())
    if max(anchors, default=0) > last or counters.get("chain", 0) > last:
        raise Break("truncated", last + 1)
    if counters.get("inspections", 0) > highest:
        raise Break("truncated", last + 1)
    check_outbox(database)
    return last


def check_outbox(database):
    query = "SELECT body FROM chain WHERE kind = 'recovered' ORDER BY sequence DESC LIMIT 1"
    recovered = database.execute(query).fetchone()
    orphans = json.loads(recovered["body"])["messages_without_inspection"] if recovered else 0
    rows = database.execute(
        "SELECT o.result_id, o.station, o.payload, i.station AS i_station, i.verdict, c.sequence"
        " FROM outbox AS o LEFT JOIN inspections AS i ON i.result_id = o.result_id"
        " LEFT JOIN chain AS c ON c.inspection = i.sequence WHERE o.kind = 'result' ORDER BY o.id"
    )
    for row in rows:
        sequence = row["sequence"] or 0
        if row["verdict"] is None:
            if orphans == 0:
                raise Break("outbox_differs", sequence)
            orphans -= 1
            continue
        try:
            message = json.loads(row["payload"])
        except ValueError:
            continue
        expected = {"result_id": row["result_id"], "station": row["i_station"], "verdict": row["verdict"]}
        if row["station"] != row["i_station"] or any(
            message.get(key, value) != value for key, value in expected.items()
        ):
            raise Break("outbox_differs", sequence)


def anchors_of(argument):
    if os.path.isfile(argument):
        return list(read_heads(argument))
    sequence, _, digest = argument.partition(":")
    return [{"sequence": int(sequence), "digest": digest.lower()}]


def main(arguments):
    path, evidence, given = arguments[0], None, []
    for option, value in zip(arguments[1::2], arguments[2::2]):
        if option == "--evidence":
            evidence = value
        elif option == "--anchor":
            given += anchors_of(value)
        else:
            sys.exit(__doc__)
    try:
        verify(path, evidence, given)
    except Break as found:
        print(json.dumps({"code": found.code, "sequence": found.sequence}))
        sys.exit(7)
    print("INTACT")


if __name__ == "__main__":
    main(sys.argv[1:])
