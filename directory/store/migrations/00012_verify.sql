-- +goose Up
ALTER TABLE directory.moves DROP CONSTRAINT moves_wish_check;
ALTER TABLE directory.moves ADD CONSTRAINT moves_wish_check CHECK (wish IN ('', 'switch', 'cancel', 'verify', 'complete'));

-- +goose Down
UPDATE directory.moves SET wish = '' WHERE wish = 'verify';
ALTER TABLE directory.moves DROP CONSTRAINT moves_wish_check;
ALTER TABLE directory.moves ADD CONSTRAINT moves_wish_check CHECK (wish IN ('', 'switch', 'cancel', 'complete'));
