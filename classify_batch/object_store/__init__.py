"""Objects in a store (S3, Google Cloud Storage, Azure Blob Storage) as inputs and as targets. Needs the extra `s3`.

An object is read in ranges of one version of it, and written by an upload that is completed last of all: until then the
store shows the old one. The only room that imports obstore, and only where a URL was given; `url.py` is free of it.
"""
