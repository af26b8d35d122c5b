"""U-RISC's text on its competition beyond scores: the methods of the teams (Figure 5), its road map (Fig. 1).

`survey.csv` has the schema of `urisc.csv`. It lies in a separate folder because a result depends on the tables next to
the modules that its chapter imports, and only the chapter on the competition shows these rows.
"""

from functools import cache
from importlib.resources import files

from emseg.reported.tables import SUBJECTS, Reported, read_reported


@cache
def load_survey() -> tuple[Reported, ...]:
    """Return the rows of `survey.csv`; their quantities are surveyed_method, method_share and imagenet_accuracy."""
    return read_reported(files("emseg.reported.competition").joinpath("survey.csv"), SUBJECTS["urisc"])
