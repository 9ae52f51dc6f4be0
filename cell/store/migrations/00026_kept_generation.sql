-- An undo that was aborted in its pause before 00025 has left a copy that says nothing of the source's generation: it counts
-- for the first one alone. Where the source has lost something since, the next undo copies everything. So it does, once, over the
-- copy of an undo that was aborted before its first round, where the source was reconciled before: that copy was good, but
-- nothing tells it from one of an undo that was begun over the other kind.
-- +goose Up

UPDATE cell.received SET snapshot = '0/3:3:' WHERE move_id LIKE 'kept:%' AND snapshot = '3:3:';
