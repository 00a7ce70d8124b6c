"""DeepSpeed: the micro-batches of an engine's data-parallel rank, and a state that belongs into its checkpoint.

In:  an engine of `deepspeed.initialize(...)` without `training_data`, and a dataset (a path or a `Reader`).
Out: `CurriculumDataset` for the engine's rank, data-parallel processes and gradient accumulation steps.
Guarantees: the state is the border of the engine's last whole step, also between micro-batches; resuming replays from
there, with another number of accumulation steps too; the engine's counts of samples follow the rows of every phase;
settings under which DeepSpeed would feed or cut other rows are refused.

    engine, *_ = deepspeed.initialize(model=model, optimizer=optimizer, config=config)
    dataset = dataset_for(engine, "curriculum-data")
    for batch in dataset: ...                              # engine(batch), engine.backward(loss), engine.step()
    engine.save_checkpoint(folder, client_state={"curriculum": dataset.state_dict()})
    config: 8 rows per GPU, 2 accumulation steps, 4 GPUs   ->   rank 1, world_size 4, micro_batches 2

The optimizer state of ZeRO stages 1 to 3 is DeepSpeed's to carry to another number of processes: see docs/trainers.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

from curriculum.cursor import Cursor
from curriculum.errors import ConfigError, CursorError
from curriculum.reader import Reader

try:  # types are checked with deepspeed installed and without: hence `unused-ignore`
    from deepspeed.runtime.pipe.engine import PipelineEngine  # type: ignore[import-not-found, import-untyped, unused-ignore]
    from deepspeed.utils import groups  # type: ignore[import-not-found, import-untyped, unused-ignore]

    from curriculum.adapters.pytorch import CurriculumDataset
    from curriculum.adapters.widened import Example
except ImportError as error:
    raise ImportError(
        f"curriculum.adapters.deepspeed needs torch and deepspeed ({error}); "
        f"install them with: pip install torch deepspeed"
    ) from error

__all__ = ["EngineDataset", "dataset_for"]


def dataset_for(engine: Any, dataset: str | PathLike[str] | Reader, **options: Any) -> EngineDataset:
    """The micro-batches that this engine's process trains on.

    Args:
        engine: what `deepspeed.initialize` returned first. Any ZeRO stage; no PipelineEngine.
        dataset: folder of a finished dataset, or a reader of it.
        **options: what else `CurriculumDataset` takes, but not rank and world_size. `micro_batches` and `micro_tokens`
            belong to `"managed_gradient_accumulation": false`: else the engine's gradient_accumulation_steps count.

    Raises:
        ConfigError: a setting of the engine under which other rows than the plan's would be trained on.
    """
    return EngineDataset(engine, dataset, **options)


class EngineDataset(CurriculumDataset):
    """`CurriculumDataset` whose share and state are an engine's; what `dataset_for` gives."""

    def __init__(self, engine: Any, dataset: str | PathLike[str] | Reader, **options: Any) -> None:
        """See `dataset_for`."""
        _require_plain_batches(engine)
        self._is_managed = getattr(engine, "managed_gradient_accumulation", lambda: True)()  # since 0.19
        self._engine = engine
        self._steps_before: int | None = None
        rank = {"rank": groups._get_data_parallel_rank(), "world_size": engine.dp_world_size}
        super().__init__(dataset, **{**options, **rank, **self._sizes(options)})

    def _sizes(self, options: dict[str, Any]) -> dict[str, int]:
        """The number of micro-batches, where the engine decides it."""
        if not self._is_managed:
            return {}
        accumulated = self._engine.gradient_accumulation_steps()
        own = {name: options[name] for name in ("micro_batches", "micro_tokens") if options.get(name) is not None}
        if own and own != {"micro_batches": accumulated}:
            named = ", ".join(f"{name}={count}" for name, count in own.items())
            raise ConfigError(
                f"{named}, and the engine has gradient_accumulation_steps {accumulated}: it steps after every "
                f"{accumulated} micro-batches. Give the number in DeepSpeed's configuration alone, or set "
                f'"managed_gradient_accumulation": false there and call engine.step() where a step ends.'
            )
        return {"micro_batches": accumulated}

    def __iter__(self) -> Iterator[Example]:
        """The micro-batches that remain; before each the engine is told how many rows it has.

        Raises:
            CursorError: the data-parallel processes x micro-batches do not divide every remaining step.
            ConfigError: the engine stands inside a step, or its accumulation steps were changed meanwhile.
        """
        batches = super().__iter__()
        accumulated = self._engine.gradient_accumulation_steps()
        if self._is_managed and self._engine.micro_steps % accumulated:
            raise ConfigError(
                f"The engine has accumulated {self._engine.micro_steps % accumulated} of {accumulated} micro-batches "
                f"of a step. Begin to iterate, or load a checkpoint, only after a whole step or in a new engine."
            )
        self._steps_before = self._start.step - self._engine.global_steps
        return self._announced(batches, accumulated)

    def _announced(self, batches: Iterator[Example], accumulated: int) -> Iterator[Example]:
        engine = self._engine
        for batch in batches:
            if engine.gradient_accumulation_steps() != accumulated:
                raise ConfigError(
                    f"The engine's gradient_accumulation_steps went from {accumulated} to "
                    f"{engine.gradient_accumulation_steps()} (set_train_batch_size does that) while batches were "
                    f"handed out for {accumulated}. Leave it, or end the loop at a step border and call dataset_for."
                )
            num_rows = len(batch["input_ids"])
            if num_rows != engine.train_micro_batch_size_per_gpu():  # it counts global_samples with it
                engine.set_train_micro_batch_size(num_rows)
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """The border after the engine's last whole step: the same on every rank, for any number of them."""
        if self._steps_before is None:
            return super().state_dict()
        # Micro-batches of a step that is not finished were handed out, but a checkpoint holds no gradients.
        return Cursor(self.reader.id, self._engine.global_steps + self._steps_before).state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there; takes effect at the next `iter`.

        Raises:
            CursorError: the state is of another dataset (both ids are named), inside a step, or does not fit the
                data-parallel processes and micro-batches.
        """
        if Cursor.from_state_dict(state).row:
            raise CursorError(
                f"The state stands inside step {state['step']}, at row {state['row']}, and DeepSpeed's checkpoints "
                f"hold no gradients. Resume at a step border."
            )
        super().load_state_dict(state)
        self._steps_before = None


def _require_plain_batches(engine: Any) -> None:
    """Refuse what would feed other rows, or cut them a second time.

    Raises:
        ConfigError: says what to change.
    """
    if isinstance(engine, PipelineEngine):
        raise ConfigError(
            "A PipelineEngine keeps the shape of activations from the first batch on, and stages that read no data do "
            "not see it change. Use CurriculumDataset with the ranks of engine.grid and engine.micro_batches, and call "
            "engine.reset_activation_shape() on every stage before the first step of each phase of the plan."
        )
    if engine.training_dataloader is not None:
        raise ConfigError(
            "deepspeed.initialize got training_data: its loader shuffles, and batches rows of different lengths. Leave "
            "training_data out."
        )
    legacy = engine.config.get("curriculum_learning", {}) if isinstance(engine.config, dict) else {}
    if legacy.get("enabled") or engine.data_efficiency_enabled():
        raise ConfigError(
            "DeepSpeed's own curriculum_learning or data_efficiency is enabled: it would sample or cut rows that are "
            "cut already. Remove both from its configuration."
        )
