"""Every error of the project, in one tree.

    CurriculumError
    ├─ PlanError (ValueError)       a schedule, batch or budget that cannot work; raised before any data is read
    ├─ ConfigError (ValueError)     an option, file or argument that is unknown, contradictory or missing
    ├─ BuildError                   a stage of a build could not finish
    │  └─ BadRecordError            a record of the corpus cannot become a document
    ├─ DataError                    bytes on disk contradict the manifest, or are not ours
    └─ CursorError (ValueError)     a resume point or a world size that does not fit the dataset

A message is a finished sentence: where, what was found, what is allowed, what to do. The command line exits with 2
for `PlanError` and `ConfigError` (the request is wrong) and with 1 for the rest (the request failed).

    try:
        reader = curriculum.open("my-dataset", check=True)
    except curriculum.CurriculumError as error:
        print(error)
"""


class CurriculumError(Exception):
    """Base of all errors that this project raises on purpose."""


class PlanError(CurriculumError, ValueError):
    """A schedule, batch or budget that cannot work; names the value, what is allowed and what to do."""


class ConfigError(CurriculumError, ValueError):
    """An option, configuration file or argument that is unknown, contradictory or missing."""


class BuildError(CurriculumError):
    """A stage of a build could not finish; running the same command again continues where it stopped."""


class BadRecordError(BuildError):
    """A record of the corpus cannot become a document; names the file, the line or byte, and the reason."""


class DataError(CurriculumError):
    """Bytes on disk contradict the manifest, or are not a curriculum dataset; names the file and the remedy."""


class CursorError(CurriculumError, ValueError):
    """A resume point, rank, world size or micro-batch count that does not fit the dataset."""
