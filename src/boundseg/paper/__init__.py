"""The paper's tables and figures: what each needs, what is run for it, and ours beside the paper's.

Kervadec, Dolz, Tang, Granger, Boykov, Ben Ayed: Constrained-CNN losses for weakly supervised segmentation, Medical
Image Analysis 54 (2019). Every row of a table is a YAML file in ``configs/``, merged onto what a dataset's rows have in
common (``configs/bases/``). See ``docs/reproduce.md``.
"""

from boundseg.paper.reproduce import Reproduced, reproduce

__all__ = ["Reproduced", "reproduce"]
