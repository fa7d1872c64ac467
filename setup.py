"""What pyproject.toml cannot say: configs, weights and docs, which lie beside the package, are installed inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ssiu*"]), "ssiu.configs", "ssiu.docs", "ssiu.pretrain_model"],
    package_dir={"ssiu.configs": "configs", "ssiu.docs": "docs", "ssiu.pretrain_model": "pretrain_model"},
)
