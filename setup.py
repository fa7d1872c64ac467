"""What pyproject.toml cannot say: the weights beside the package are installed inside it."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["ssiu*"]), "ssiu.pretrain_model"],
    package_dir={"ssiu.pretrain_model": "pretrain_model"},
)
