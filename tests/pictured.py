"""What the tests of heatmaps draw."""

from __future__ import annotations

import pandas as pd
from synthetic import row

from needle import analysis

LENGTHS, DEPTHS = (1024, 4608, 32768), (0.0, 0.5, 1.0)


def table() -> pd.DataFrame:
    return analysis.frame(
        [
            row(1024, 0.0, 1.0, answer="It is <b>4821</b> & more", depth_used=0.0042),
            row(1024, 0.5, 0.0),
            row(4608, 0.0, None, error="out of memory"),
            row(4608, 1.0, 1.0),
            row(4608, 1.0, 0.0, 1),
        ]
    )
