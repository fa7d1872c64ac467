"""What pyproject.toml cannot say: the configs and weights beside the package are installed inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ssiu*"]), "ssiu.configs", "ssiu.pretrain_model"],
    package_dir={"ssiu.configs": "configs", "ssiu.pretrain_model": "pretrain_model"},
)
