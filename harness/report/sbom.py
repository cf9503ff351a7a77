"""The contents of an image as a CycloneDX 1.6 document: the same image gives the same bytes."""

import uuid
from datetime import datetime
from typing import Any

from cyclonedx import model
from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import bom as bom_model
from cyclonedx.model import component as component_model
from cyclonedx.model.component import ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

from harness.model.software import Contents, Package

_NAMESPACE = uuid.UUID("6a0c1f0e-6f2a-5c1e-9d0b-5a4f6d1c2b3e")  # of these documents, so that a serial number is stable
# The decorators of these classes hide their types.
_Bom: Any = bom_model.Bom
_Component: Any = component_model.Component
_Hash: Any = model.HashType
_Property: Any = model.Property


def sbom(contents: Contents) -> str:
    """Return the document's JSON text.

    What an image stands in for is a property of it. Libraries that a wheel carries inside are not told apart: they are
    in no package database.
    """
    bom = _Bom(serial_number=uuid.uuid5(_NAMESPACE, contents.identity))
    bom.metadata.timestamp = datetime.fromisoformat(contents.created)
    bom.metadata.component = root = _image(contents)
    for package in contents.packages:
        bom.components.add(_component(package, contents.distribution))
    bom.register_dependency(root, bom.components)
    return JsonV1Dot6(bom).output_as_string(indent=2) + "\n"


def _image(contents: Contents) -> Any:  # noqa: ANN401
    name, _, version = contents.image.rpartition(":")
    digest = contents.identity.removeprefix("sha256:")
    return _Component(
        type=ComponentType.CONTAINER,
        name=name or contents.image,
        version=version if name else None,
        bom_ref=contents.identity,
        hashes=[_Hash(alg=model.HashAlgorithm.SHA_256, content=digest)],
        properties=[_Property(name="rollgate:stand_in", value=contents.stand_in)] if contents.stand_in else [],
    )


def _component(package: Package, distribution: str) -> Any:  # noqa: ANN401
    more = {"arch": package.architecture, "distro": distribution} if package.kind == "deb" else {}
    url = PackageURL(
        type=package.kind,
        namespace=(distribution.partition("-")[0] or None) if package.kind == "deb" else None,
        name=package.name,
        version=package.version,
        qualifiers={key: value for key, value in more.items() if value},
    )
    return _Component(
        type=ComponentType.LIBRARY,
        name=package.name,
        version=package.version,
        bom_ref=str(url),
        purl=url,
        licenses=[LicenseFactory().make_from_string(package.license)] if package.license else [],
    )
