"""Running `showtell describe` on an album, and reading what it has written."""

import csv
import json
import xml.etree.ElementTree as ET
from pathlib import Path

from showtell.commands import cli
from showtell.generation.captioner import Captioner

DC, RDF = "{http://purl.org/dc/elements/1.1/}", "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
IPTC = "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}"


def describe(model, *arguments) -> int:
    return cli.dispatch(["describe", "--model", str(model), *map(str, arguments)])


def rows(form):
    if form == "jsonl":
        return [json.loads(line) for line in Path("alt-text.jsonl").read_text(encoding="utf-8").splitlines()]
    with open("alt-text.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def alternatives(sidecar) -> dict[str, str]:
    tree = ET.fromstring(sidecar.read_bytes())
    names = f"{DC}description", f"{IPTC}AltTextAccessibility"
    return {name: tree.find(f".//{name}/{RDF}Alt/{RDF}li").text for name in names}


def caption_of(model, picture) -> str:
    return Captioner.load(model).caption([picture])[0].text
