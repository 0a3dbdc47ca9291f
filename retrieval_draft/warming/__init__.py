"""Sources into documents into tokens into a corpus: what `retrieval-draft warm` does.

files      what a source names: files, folders, standard input, URLs; compressed or not
formats    a file into documents: text, JSON lines, Parquet, arrays of ids
fields     one record into one document: its fields, its chat turns
sources    all documents of a list of sources
hub        datasets of the Hugging Face hub
tokenising documents into token ids, in batches
digests    which texts were tokenised before, and to which document
estimating what it would come to
sending    token ids to the sidecar, a bounded number of messages ahead of its acknowledgements
"""
