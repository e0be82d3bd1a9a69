"""nnU-Net v2 with constraints: the trainer that it looks up, and commands that hand it over.

Nothing here is imported by nnU-Net itself but :mod:`boundseg_trainer` in ``external/``, the folder that its variable
``nnUNet_extTrainer`` names.
"""
