-- +goose Up

-- What tenants are found by: the words of slug and name, as store.tenantWords has them. Between
-- them are the signs that Postgres takes for a part of a word, as of a host or a number.
CREATE INDEX tenants_words ON directory.tenants
	USING gin (to_tsvector('simple', translate(slug || ' ' || name, '-_./@:+<>&', '          ')))
	WHERE state <> 'deleted';

-- +goose Down
DROP INDEX directory.tenants_words;
