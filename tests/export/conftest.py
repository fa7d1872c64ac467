"""spandrel is imported by tests here, and torchvision does not load beside the CPU build of torch."""

from torchvision_standin import stand_in

stand_in()
