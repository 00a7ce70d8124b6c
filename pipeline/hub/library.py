"""The library `datasets`, kept to what a build may do.

In:  a repository at a commit, and one of its configurations.   Out: a builder of `datasets`, which makes streams.
Guarantee: loaded only where something is read by it, and quiet. It runs no code of the Hub (scripts are refused before
it is asked, by `find_split`), takes no folder of this machine for a repository, and puts no text into quotes. What it
raises ends as one sentence.

    open_builder(hf:org/books@1f2e...:fr/train)     there is no configuration 'fr'; there are "en", "de"
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from curriculum.errors import BuildError, ConfigError
from pipeline.hub.access import access_error, first_line, hub_error, unexpected
from pipeline.hub.names import DEFAULT_SPLIT, HubName
from pipeline.records import name_list

INSTALL = "pip install -U 'seqlen-curriculum[hf]'"
NOT_READ = "give its files by their addresses (hf://datasets/...), or files of this machine"


def open_builder(name: HubName) -> Any:
    """What `datasets` makes of a repository, or of one configuration of it."""
    datasets = _datasets()
    if Path(name.repository).exists():
        raise ConfigError(
            f"{name}: here is a folder {name.repository}, which `datasets` would take for the repository: run the "
            f"command in another folder."
        )
    try:
        builder = datasets.load_dataset_builder(name.repository, name.config, revision=name.commit)
    except Exception as error:
        if isinstance(error, ValueError) and hub_error(error, name, "dataset") is None:
            _refuse_config(error, name)
        raise_in_place(error, name)
    if hasattr(builder.config, "on_mixed_types"):
        builder.config.on_mixed_types = None  # one number among the texts, and all would come in quotes
    return builder


def _datasets() -> Any:
    """The module `datasets`.

    Raises:
        ConfigError: it is not installed, or too old.
    """
    try:
        import datasets
    except ImportError as error:
        raise ConfigError(f"Corpora by name are read by the package datasets ({error}): {INSTALL}.") from error
    if not hasattr(datasets.IterableDataset, "num_shards"):
        raise ConfigError(
            f"datasets {datasets.__version__} cannot read single shards of a stream, 3.1 and newer can: {INSTALL}."
        )
    datasets.disable_progress_bars()  # workers would draw theirs across each other
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # what matters is said here, once
    return datasets


def _refuse_config(error: ValueError, name: HubName) -> None:
    """Refuse a configuration that is not there, or none where there are several."""
    try:
        configs = [
            str(config) for config in _datasets().get_dataset_config_names(name.repository, revision=name.commit)
        ]
    except Exception:
        return  # the repository is wrong, not the name: the first error says how
    if name.config is None and len(configs) > 1:
        problem = "it has several configurations and none of them by default"
    elif name.config is not None and name.config not in configs:
        problem = f"there is no configuration {name.config!r}"
    else:
        return
    raise ConfigError(
        f"{name}: {problem}; there are {name_list(configs)}. Write hf:{name.repository}:{configs[0]}/{DEFAULT_SPLIT}."
    ) from error


def raise_in_place(error: Exception, name: HubName) -> NoReturn:
    """Raise the sentence for what `datasets` raised; ours as they are."""
    if isinstance(error, ConfigError | BuildError):
        raise error
    known = hub_error(error, name, "dataset") or access_error(name, "dataset")
    if known is not None:
        raise known from error
    if isinstance(error, StopIteration):  # looked for the first row, to know the columns
        raise ConfigError(f"{name}: its files hold no rows. Put some in, or name another configuration.") from error
    if isinstance(error, ValueError | FileNotFoundError | RuntimeError):
        raise ConfigError(
            f"{name}: `datasets` does not find in it what it reads ({type(error).__name__}: {first_line(error)}): "
            f"{NOT_READ}."
        ) from error
    raise unexpected(error, name) from error


@contextmanager
def without_torch() -> Iterator[None]:
    """`datasets` loads torch for every stream, for those who give it to a DataLoader: 3 s in each process."""
    import datasets.config

    before = datasets.config.TORCH_AVAILABLE
    datasets.config.TORCH_AVAILABLE = False
    try:
        yield
    finally:
        datasets.config.TORCH_AVAILABLE = before
