"""From the bytes of an XML file to plain nodes: no DTD, no entities, no network.

What comes after this line sees `Node` and never lxml: names with their namespaces,
attributes, text and children, and nothing that XML can hide between them.
"""

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from lxml import etree

from otpseal.errors import FileRefused
from otpseal.formats.row import RowError

#: Largest container that is looked at unless a caller raises it, in bytes.
MAX_BYTES: Final = 256 * 1024

PSKC: Final = "{urn:ietf:params:xml:ns:keyprov:pskc}"
DS: Final = "{http://www.w3.org/2000/09/xmldsig#}"
XENC: Final = "{http://www.w3.org/2001/04/xmlenc#}"
XENC11: Final = "{http://www.w3.org/2009/xmlenc11#}"
PKCS5: Final = "{http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#}"

#: In UTF-8, the only encoding that is read, a document type begins with no others.
_DOCTYPE: Final = b"<!DOCTYPE"
_BLANKS: Final = " \t\r\n"
_BLANK: Final = re.compile(r"[ \t\r\n]+")


@dataclass(frozen=True, slots=True)
class Node:
    """One element of a container.

    Attributes:
        name: its namespace in braces, and its name.
        attributes: those without a namespace by their names, others in Clark's form.
        text: what it holds if it has no children, without blanks around; else "".
        children: the elements in it.
    """

    name: str
    attributes: Mapping[str, str]
    text: str = field(repr=False)
    children: tuple["Node", ...] = field(repr=False)

    def holds_only(self, *names: str) -> None:
        """Check that every child has one of these names.

        Raises:
            RowError: one has not.
        """
        if {child.name for child in self.children} - set(names):
            raise RowError(f"{_local(self.name)} holds an element that is not known")

    def all(self, name: str) -> list["Node"]:
        """Return the children of this name."""
        return [child for child in self.children if child.name == name]

    def maybe(self, *names: str) -> "Node | None":
        """Return the child that has one of these names, or None.

        Raises:
            RowError: there are two: of which one reader takes the first, another the
                last.
        """
        found = [child for child in self.children if child.name in names]
        if len(found) > 1:
            raise RowError(f"{_local(names[0])} is given twice")
        return found[0] if found else None

    def one(self, *names: str) -> "Node":
        """Return the only child of one of these names.

        Raises:
            RowError: there is none, or two.
        """
        found = self.maybe(*names)
        if found is None:
            raise RowError(f"{_local(names[0])} is missing")
        return found

    def leaf(self) -> str:
        """Return the text.

        Raises:
            RowError: there are elements in it.
        """
        if self.children:
            raise RowError(f"{_local(self.name)} holds elements where text is due")
        return self.text

    def binary(self) -> bytes:
        """Return the bytes behind its base64, in which blanks may stand.

        Raises:
            RowError: it is not base64, or empty.
        """
        text = _BLANK.sub("", self.leaf())
        try:
            found = binascii.a2b_base64(text, strict_mode=True)
        except ValueError:
            found = b""
        # Nonzero trailing bits: two spellings of one value.
        if not found or base64.b64encode(found).decode("ascii") != text:
            raise RowError(f"{_local(self.name)} is not base64")
        return found


def read(content: bytes, *, max_bytes: int = MAX_BYTES) -> Any:  # noqa: ANN401 - lxml
    """Return the root element that lxml makes of `content`, which is UTF-8.

    Raises:
        FileRefused: larger than `max_bytes`, no XML, or with a document type.
    """
    if len(content) > max_bytes:
        raise FileRefused(
            f"the container is larger than {max_bytes} bytes: raise --max-bytes if it"
            " came by a way you trust"
        )
    # A billion laughs and files of this machine come in by a document type; PSKC has
    # none. Before the parser sees it: nothing of it is worked on.
    if _DOCTYPE in content:
        raise FileRefused("the file has a document type (DOCTYPE), which PSKC has not")
    parser = etree.XMLParser(
        encoding="utf-8",  # whatever the declaration says: one reading
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        recover=False,
    )
    try:
        root = etree.fromstring(content, parser)
    # ValueError: an encoding declaration that contradicts itself.
    except (etree.XMLSyntaxError, ValueError):
        root = None
    # Outside the handler: lxml's error would stay reachable, and quotes the file.
    if root is None:
        raise FileRefused("the file is not well-formed XML in UTF-8")
    return root


def node_of(element: Any) -> Node:  # noqa: ANN401 - lxml
    """Return an element of lxml, and all below it, as nodes.

    Raises:
        FileRefused: text beside elements, or something else than text within a text:
            `<SerialNo>12<!-- -->34</SerialNo>` is 12 to one reader, 1234 to another.
    """
    children = [child for child in element if isinstance(child.tag, str)]
    texts = [element.text or "", *(child.tail or "" for child in element)]
    # Blanks may stand between elements; within a text nothing else may.
    if (children and "".join(texts).strip(_BLANKS)) or (len(element) and not children):
        raise FileRefused(
            "the container mixes text with elements, comments or instructions"
        )
    return Node(
        str(element.tag),
        {str(name): str(value) for name, value in element.attrib.items()},
        "".join(texts).strip(_BLANKS),
        tuple(node_of(child) for child in children),
    )


def _local(name: str) -> str:
    return name.rpartition("}")[2]
