"""Package list for setup.cfg: a new family or task folder is packaged without an edit."""

from setuptools import find_packages, setup

ROOTS = {"speechssl": "speechssl", "speechssl.upstream": "upstream", "speechssl.downstream": "downstream"}

setup(packages=[p for name, folder in ROOTS.items() for p in [name, *(f"{name}.{q}" for q in find_packages(folder))]])
