"""The commands: train, test and upscale. train.py, test.py and scripts/upscale.py of a clone only call these."""
