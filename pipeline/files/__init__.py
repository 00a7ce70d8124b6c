"""Where a build keeps its files: a folder of a disk, or a prefix of an object store.

`contract` says what both can do, `disk` does it on a disk, `address` opens either by its address. The token store and
the dataset are both `Files`; no other module of the build opens, writes or removes a file of theirs.
"""
