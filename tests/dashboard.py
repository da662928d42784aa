"""Reads a dashboard with the types that Grafana's makers publish of its files (grafana-foundation-sdk), and tells what
they do not know: a key that Grafana would pass over, or read otherwise. Called by tests/it/monitoring.rs.

    target/grafana/bin/python tests/dashboard.py monitoring/grafana.json
"""

import json
import sys

from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def differences(written, read, at=""):
    """Where `read` lacks something of `written`, or has another value."""
    if isinstance(written, dict):
        if not isinstance(read, dict):
            yield f"{at}: of another kind"
            return
        for key, value in written.items():
            if key in read:
                yield from differences(value, read[key], f"{at}/{key}")
            else:
                yield f"{at}/{key}: not known"
    elif isinstance(written, list):
        if not isinstance(read, list) or len(written) != len(read):
            yield f"{at}: of another length"
            return
        for number, (one, other) in enumerate(zip(written, read)):
            yield from differences(one, other, f"{at}/{number}")
    elif written != read:
        yield f"{at}: {written!r} is read as {read!r}"


plugins.register_default_plugins()
with open(sys.argv[1], encoding="utf-8") as file:
    written = json.load(file)
dashboard = Dashboard.from_json(written)
read = json.loads(JSONEncoder().encode(dashboard))
found = list(differences(written, read))
print("\n".join(found) or f"{len(dashboard.panels)} panels are read as they were written")
sys.exit(1 if found else 0)
