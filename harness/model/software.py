"""What is installed in an image: packages, as the package databases inside name them."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Package:
    """One package: `kind` is "deb" or "pypi"; `license` as its publisher states it, "" where the database has none."""

    kind: str
    name: str
    version: str
    architecture: str = ""
    license: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contents:
    """An image's contents: its name, its id ("sha256:..."), when it was made, its distribution, and its packages.

    `created` is an ISO time with zone; `distribution` like "debian-12", "" where the image does not say; `stand_in` is
    what the image stands in for, "" for the real thing.
    """

    image: str
    identity: str
    created: str
    distribution: str
    packages: tuple[Package, ...]
    stand_in: str = ""
