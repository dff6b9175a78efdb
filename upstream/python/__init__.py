"""Your own encoder: any class or function in a Python file or package, as python:FILE.py:NAME or python:PACKAGE:NAME"""

from speechssl.upstream.python import code as FOREIGN
from speechssl.upstream.python.model import Module

__all__ = ["FOREIGN", "Module"]
