"""From the user's text to a store that can be trained on.

The words, in code and docs:

    shard      what is read as a whole: a file of documents, a part of a large one, or
               many small ones; a corpus is shards in an order
    document   a text, its domain and identifier
    piece      some megabytes of a shard's documents; what a stopped job does again
    domain     what a document belongs to: its source, or the cluster of its embedding
    level      domains of one granularity; the finest are what rows are sorted by
    group      domains that make up one of a coarser level; unless it says, the coarsest
    split      train and heldout of the corpus, target and target_eval of the target
    stream     the tokens of a domain in a split: its documents, joined in their order
    row        L + 1 tokens of a stream; the last is the first of the next row
    segment    shards in a row that are counted, and then written, by one call
    key        what a step regroups by; of rows, the file of the store that they go to
    part       bytes that a step yields for a key; all of a key's come together

`sources` makes documents of shards, `assemble` a store of documents, `clusters` domains
of embeddings; `commands` are what the user calls.
"""
