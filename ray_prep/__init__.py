"""ray_prep turns a collection of images into a versioned, training-ready dataset of Parquet shards.

A recipe says what to read, how to clean, standardise, augment and split, and where to write. One image's walk:
`sources` list it; `plan` gives it a split and a unit; an engine hands the unit to `unit.run_unit`, which fetches,
decodes, transforms, encodes and writes shards; `build` checks the whole and publishes it with one commit of the table.
"""
