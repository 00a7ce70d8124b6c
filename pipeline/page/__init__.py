"""The page of a dataset: one HTML file that explains it, for a browser without a network.

Read in this order: `ideal.py`, `curve.py`, `groups.py`, `label_places.py` and `flow.py` (the figures in numbers);
`document_lengths.py` with `sample_lengths.py` and `length_estimate.py`, `sample_rows.py` with
`sample_documents.py` and `visible_text.py` (text that may be hostile), `build_facts.py`: what is read beside the
manifest; `theme.py` and `inline_svg.py` (figures of matplotlib in the colours of the page); `draw_schedule.py`,
`draw_flow.py`, `draw_phases.py`, `draw_mixture.py`, `draw_lengths.py`, `draw_build.py` (one figure each); `facts.py`
and `number_tables.py` (what the manifest says, in the words of the page), `figures.py` (title, description, picture and
numbers of each), `place.py` (where it may be written), `render.py` with `templates/` (the HTML and its style),
`write.py`.
`pipeline/report*.py` are something else: tables for a terminal.
"""
