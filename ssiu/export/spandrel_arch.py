"""SSIU for spandrel, and through it for ComfyUI and every other program that loads models with it.

>>> from spandrel import ModelLoader
>>> from ssiu.export.spandrel_arch import install
>>> install()
>>> ModelLoader().load_from_file("SSIU_x4.safetensors")  # or the authors' model_x4_290.pt
"""

from spandrel import (
    MAIN_REGISTRY,
    Architecture,
    ArchSupport,
    ImageModelDescriptor,
    SizeRequirements,
    StateDict,
)
from spandrel.util import KeyCondition

from ssiu.models.ssiu import SSIU, from_authors


class SSIUArch(Architecture[SSIU]):
    """Recognises SSIU's weights by their names, the authors' and this project's."""

    def __init__(self) -> None:
        super().__init__(
            id="SSIU",
            name="SSIU",
            detect=KeyCondition.has_any(
                KeyCondition.has_all(
                    "head.weight", "stages.0.esam.rel_h", "stages.0.msgm1.gate.weight", "tail.0.weight"
                ),
                KeyCondition.has_all("head.weight", "body.0.s3.rel_h", "body.0.s1.project_in1.weight", "tail.0.weight"),
            ),
        )

    def load(self, state_dict: StateDict) -> ImageModelDescriptor[SSIU]:
        """The network of the weights; its padding is its own, so any size from 1x1 on will do."""
        state_dict = from_authors(state_dict) if "body.0.s3.rel_h" in state_dict else dict(state_dict)
        arguments = SSIU.arguments_from(state_dict)
        assert arguments is not None  # as they were detected
        return ImageModelDescriptor(
            SSIU(**arguments),
            state_dict,
            architecture=self,
            purpose="SR",
            tags=[f"{arguments['n_feats']}dim", f"{arguments['n_blocks']}st"],
            supports_half=False,  # never tried on a GPU
            supports_bfloat16=True,
            scale=arguments["scale"],
            input_channels=3,
            output_channels=3,
            size_requirements=SizeRequirements(),
        )


def install(*, ignore_duplicates: bool = False) -> None:
    """Adds SSIU to spandrel's registry; raises DuplicateArchitectureError where it is there and not ignored."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(SSIUArch()), ignore_duplicates=ignore_duplicates)
