-- The disk is full 128 MiB before it is: then an insert is refused whole. The engine (26.9, in the process, at least) does not notice every
-- write that fails: it stores a part that is cut off, and answers that all is well. Found by kitectl chaos, seed 21.
ALTER TABLE events
    MODIFY SETTING min_free_disk_bytes_to_perform_insert = 134217728
