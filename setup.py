"""Compile ext/<room>/<name>.pyx to fastmta.<room>._<name>; everything else is in pyproject.toml.

Switches (environment): FASTMTA_DEBUG=1 turns every Cython check and -O0 on, FASTMTA_SANITIZE=1
builds with AddressSanitizer and UBSan.
"""

import os
from pathlib import Path

from Cython.Build import cythonize
from setuptools import Extension, setup

DEBUG = os.environ.get("FASTMTA_DEBUG") == "1"
SANITIZE = os.environ.get("FASTMTA_SANITIZE") == "1"

compile_args = ["-O0", "-g"] if DEBUG else ["-O3", "-g1"]
compile_args += ["-Wall", "-Wextra", "-Wno-unused-parameter", "-Wno-missing-field-initializers"]
link_args = []
if SANITIZE:
    compile_args += ["-fsanitize=address,undefined", "-fno-omit-frame-pointer"]
    link_args += ["-fsanitize=address,undefined"]

extensions = [
    Extension(
        f"fastmta.{source.parent.name}._{source.stem}",
        [str(source)],
        extra_compile_args=compile_args,
        extra_link_args=link_args,
        define_macros=[("FASTMTA_DEBUG", "1")] if DEBUG else [],
    )
    for source in sorted(Path("ext").glob("*/*.pyx"))
]

setup(
    ext_modules=cythonize(
        extensions,
        include_path=["ext/pxd"],
        build_dir="build/cython",
        compiler_directives={
            "language_level": 3,
            "binding": False,
            "cdivision": True,
            "overflowcheck": DEBUG,
            "warn.undeclared": False,
        },
    )
)
