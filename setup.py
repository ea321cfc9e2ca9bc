"""What pyproject.toml cannot say: configs/ and sample/ lie elsewhere in a wheel.

They come with the package, as `dga_jax.files.shipped` finds them there.
"""

from setuptools import find_namespace_packages, find_packages, setup

_INSIDE = "dga_jax.shipped"

setup(
    packages=[
        *find_packages(include=["dga_jax*"]),
        *(
            f"{_INSIDE}.{name}"
            for name in find_namespace_packages(include=["configs*"])
        ),
        f"{_INSIDE}.sample",
    ],
    package_dir={f"{_INSIDE}.configs": "configs", f"{_INSIDE}.sample": "sample"},
    package_data={
        "dga_jax.page": ["*.css", "*.js"],
        f"{_INSIDE}.sample": ["*.json", "*.md", "*/*.jsonl.xz", "licenses/*"],
    },
)
