"""XMP sidecars: the caption as `dc:description` and as `Iptc4xmpCore:AltTextAccessibility`.

Adobe, "XMP Specification Part 1" (2012), section 7; IPTC Photo Metadata Standard 2023.1, "Alt Text (Accessibility)".
Both properties are language alternatives, of which `x-default` is written. A sidecar that another program has made
keeps everything else that it says.
"""

import xml.etree.ElementTree as ET
from pathlib import Path

from showtell.commands.alt_text.description import Description, Kept, Origin
from showtell.core.errors import UserError

NAMESPACES = {
    "x": "adobe:ns:meta/",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "dc": "http://purl.org/dc/elements/1.1/",
    "Iptc4xmpCore": "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/",
    "xmp": "http://ns.adobe.com/xap/1.0/",
    "showtell": "https://showtell.invalid/ns/1.0/",
}
_LANGUAGE = "{http://www.w3.org/XML/1998/namespace}lang"
_START, _END = '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>', '<?xpacket end="w"?>'


def _name(short: str) -> str:
    prefix, _, local = short.partition(":")
    return f"{{{NAMESPACES[prefix]}}}{local}"


def sidecar_of(picture: Path) -> Path:
    """`photo.jpg.xmp`: of pictures that differ in their ending alone each has its own."""
    return picture.with_name(f"{picture.name}.xmp")


def kept(sidecar: Path) -> Kept | None:
    """What a sidecar of ours holds; None for others and for none."""
    try:
        node = _description_node(_parsed(sidecar))
        origin, state, abstained = (_text(node, f"showtell:{name}") for name in ("Origin", "PictureState", "Abstained"))
        withheld = float(_text(node, "showtell:Confidence") or 0) if abstained else None
    except (OSError, ET.ParseError, ValueError, UserError):
        return None
    return Kept(origin, state, withheld) if origin and state else None


def sidecar_text(existing: Path, description: Description, origin: Origin) -> str:
    """The sidecar's new text; what `existing` says otherwise stays. `UserError` when that is no XMP."""
    try:
        tree = _parsed(existing) if existing.exists() else _empty()
    except ET.ParseError as error:
        reason = f"is not XMP that can be added to ({error})"
        raise UserError(f"{existing} {reason}; move it away to have a new one") from None
    node = _description_node(tree)
    says_ours = _text(node, "showtell:Origin") is not None and _text(node, "showtell:Abstained") is None
    for name in ("dc:description", "Iptc4xmpCore:AltTextAccessibility"):
        if description.caption is not None:
            _set_alternative(node, _name(name), description.caption)
        elif says_ours:  # of a picture, or by a model, that was another; what others say stays
            _drop_alternative(node, _name(name))
    confidence = None if description.confidence is None else f"{description.confidence:g}"
    ours = {
        "Origin": str(origin), "PictureState": description.state, "Confidence": confidence,
        "Abstained": description.abstained,
    }  # fmt: skip
    for name, text in ours.items():
        _set_text(node, _name(f"showtell:{name}"), text)
    ET.indent(tree)
    return f"{_START}\n{ET.tostring(tree, encoding='unicode')}\n{_END}\n"


def _parsed(path: Path) -> ET.Element:
    text = path.read_bytes()
    if b"<!DOCTYPE" in text or b"<!ENTITY" in text:  # XMP has none; in hostile files they multiply
        raise ET.ParseError("it declares entities")
    for _, (prefix, uri) in ET.iterparse(path, events=("start-ns",)):
        if prefix and not prefix.startswith("ns"):  # written again as they were found; ns1, ns2 are the library's own
            ET.register_namespace(prefix, uri)
    return ET.fromstring(text)


def _empty() -> ET.Element:
    tree = ET.Element(_name("x:xmpmeta"))
    ET.SubElement(ET.SubElement(tree, _name("rdf:RDF")), _name("rdf:Description"), {_name("rdf:about"): ""})
    return tree


def _description_node(tree: ET.Element) -> ET.Element:
    for prefix, uri in NAMESPACES.items():
        ET.register_namespace(prefix, uri)
    rdf = tree if tree.tag == _name("rdf:RDF") else tree.find(_name("rdf:RDF"))
    if rdf is None:
        raise UserError("a sidecar without rdf:RDF is not XMP; move it away to have a new one")
    nodes = rdf.findall(_name("rdf:Description"))
    own = next((node for node in nodes if node.find(_name("dc:description")) is not None), None)
    return own if own is not None else nodes[0] if nodes else ET.SubElement(rdf, _name("rdf:Description"))


def _set_alternative(node: ET.Element, name: str, text: str) -> None:
    """`text` as the default of a language alternative; other languages stay."""
    found = node.find(name)
    found = found if found is not None else ET.SubElement(node, name)
    choices = found.find(_name("rdf:Alt"))
    choices = choices if choices is not None else ET.SubElement(found, _name("rdf:Alt"))
    item = next((li for li in choices if li.get(_LANGUAGE) == "x-default"), None)
    if item is None:
        item = ET.Element(_name("rdf:li"), {_LANGUAGE: "x-default"})
        choices.insert(0, item)
    item.text = text


def _drop_alternative(node: ET.Element, name: str) -> None:
    """Take the default of a language alternative away, and the alternative when no language is left."""
    found, choices = node.find(name), node.find(f"{name}/{_name('rdf:Alt')}")
    if found is None or choices is None:
        return
    for item in choices.findall(_name("rdf:li")):
        if item.get(_LANGUAGE) == "x-default":
            choices.remove(item)
    if not len(choices):
        node.remove(found)


def _text(node: ET.Element, short: str) -> str | None:
    """A simple property, as an element or as an attribute."""
    return node.findtext(_name(short)) or node.get(_name(short))


def _set_text(node: ET.Element, name: str, text: str | None) -> None:
    """Set a simple property; None takes it away."""
    node.attrib.pop(name, None)
    found = node.find(name)
    if text is None:
        if found is not None:
            node.remove(found)
        return
    found = found if found is not None else ET.SubElement(node, name)
    found.text = text
