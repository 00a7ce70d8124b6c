"""Which steps a dataset was extended by: how the card, `inspect` and the report of `extend` say it.

In:  a manifest.   Out: a phrase for each extension, and the id of the dataset before it; what new text has held out.
Guarantee: made from manifest fields alone.

    60 steps, extended by 20 and then by 2 of new text      ("steps 60 to 79", "sha256:..."),
                                                            ("steps 80 to 81 of source new", "sha256:...")
"""

from __future__ import annotations

from curriculum.manifest import Manifest


def extended_by(manifest: Manifest) -> list[tuple[str, str]]:
    """For each extension, the first one first: its steps, and the id of the dataset that was extended."""
    extensions = manifest.build.extensions
    phases = manifest.plan.phases[len(manifest.plan.phases) - len(extensions) :]
    told = []
    for entry, phase in zip(extensions, phases, strict=True):
        first, last = entry.first_step, entry.first_step + phase.num_steps - 1
        steps = f"step {first:,}" if first == last else f"steps {first:,} to {last:,}"
        told.append((f"{steps} of source {entry.source}" if entry.source else steps, entry.parent))
    return told


def held_out_of_new(manifest: Manifest) -> list[str]:
    """What of the text of the last extension is not trained on; [] if that is none, or text of the build."""
    last = manifest.build.extensions[-1].source if manifest.build.extensions else None
    return [
        f"{source.name}: {source.validation_tokens:,} of {source.tokens:,} tokens are held out by the rule of the build"
        for source in manifest.sources
        if source.name == last and source.validation_tokens
    ]
